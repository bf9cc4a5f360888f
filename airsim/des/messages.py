"""What the actors say to each other; every message carries the round it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class RoundOrder:
    """Base station to edge servers, edge server to its devices: begin this round.

    `participants` are the devices that are asked, `tasks` theirs in ascending order: the p-slots.
    """

    round_index: int
    participants: frozenset[int]
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class Statistics:
    """Device to base station, on the control channel: what is to be known of the payloads is known."""

    round_index: int
    device: int


@dataclass(frozen=True)
class Airtime:
    """How long each upload lasts and what it costs each device; plain numbers in SI units."""

    shared_s: float
    personal_s: float
    shared_energy_j: Sequence[float]
    personal_energy_j: Sequence[float]


@dataclass(frozen=True)
class UploadGrant:
    """Base station to everybody: the design is ready, send at these times."""

    round_index: int
    airtime: Airtime


@dataclass(frozen=True)
class Uploaded:
    """Device to its edge server: both payloads have left."""

    round_index: int
    device: int


@dataclass(frozen=True)
class EdgeReport:
    """Edge server to base station: the personal adapter of this task is merged."""

    round_index: int
    edge_server: int


@runtime_checkable
class RoundWork(Protocol):
    """The numbers behind a round: all that the clock asks of them."""

    def begin(self, round_index: int, participants: Sequence[int]) -> Airtime:
        """Gradients, statistics and design; called when the last statistics have arrived."""

    def finish(self, round_index: int) -> None:
        """Superpose and merge what was sent; called when the last edge server has reported."""
