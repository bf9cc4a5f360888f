"""Wall and processor time of the same work."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Spent(NamedTuple):
    """Seconds; with processor time far below wall time the machine was busy with something else."""

    wall_s: float
    cpu_s: float

    def per(self, count: int) -> "Spent":
        return Spent(self.wall_s / count, self.cpu_s / count)


def clocked(work: Callable[[], Any], repeats: int = 1) -> tuple[Any, Spent]:
    """The last result, and medians over the repeats."""
    wall_s, cpu_s, result = [], [], None
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        result = work()
        wall_s.append(time.perf_counter() - begun[0])
        cpu_s.append(time.process_time() - begun[1])
    return result, Spent(statistics.median(wall_s), statistics.median(cpu_s))


def median_spent(all_spent: list[Spent]) -> Spent:
    """Medians of both clocks."""
    return Spent(*(statistics.median(column) for column in zip(*all_spent, strict=True)))
