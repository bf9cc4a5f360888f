"""Both ends of an over-the-air sum: what devices multiply by, and how the receiver combines."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float


@dataclass(frozen=True, eq=False)
class TransceiverDesign:
    """Transmit scalars ``b_k`` and receive beamformer ``m`` (denoising factor included) of one receiver."""

    transmit_scalars: Complex[np.ndarray, "*batch K"]
    receive_beamformer: Complex[np.ndarray, "*batch N"]

    @property
    def power_w(self) -> Float[np.ndarray, "*batch K"]:
        """Power that each device spends: ``|b_k|^2``."""
        return np.abs(self.transmit_scalars) ** 2


@dataclass(frozen=True, eq=False)
class CombinedDesign:
    """The base station's design (all devices) and one per edge server (its own members, in their order)."""

    base_station: TransceiverDesign
    edge_servers: tuple[TransceiverDesign, ...]

    @property
    def streams(self) -> tuple[TransceiverDesign, ...]:
        """Base station first, then the edge servers."""
        return (self.base_station, *self.edge_servers)
