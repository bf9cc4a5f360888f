"""The type of a process: a generator that yields the events it waits for."""

from collections.abc import Generator
from typing import Any

import simpy

Process = Generator[simpy.Event, Any, None]
