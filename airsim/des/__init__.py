"""The clock: SimPy processes that exchange messages in simulated seconds. No arrays here."""

from airsim.des.device import OwnWork
from airsim.des.messages import Airtime, RoundWork
from airsim.des.network import Durations, NetworkProfile, RoundRecord, run_rounds
from airsim.des.timeline import Span, Timeline

__all__ = [
    "Airtime",
    "Durations",
    "NetworkProfile",
    "OwnWork",
    "RoundRecord",
    "RoundWork",
    "Span",
    "Timeline",
    "run_rounds",
]
