"""Both ends of an over-the-air sum: what devices multiply by, and how the receiver combines."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float


@dataclass(frozen=True, eq=False)
class TransceiverDesign:
    """Transmit scalars ``b_k`` and receive beamformer ``m`` (denoising factor included) of one receiver.

    With ``device_antennas`` above 1 every ``b_k`` is a vector: `transmit_scalars` has one more axis.
    """

    transmit_scalars: Complex[np.ndarray, "..."]
    receive_beamformer: Complex[np.ndarray, "*batch N"]
    device_antennas: int = 1

    @property
    def transmit_vectors(self) -> Complex[np.ndarray, "*batch K T"]:
        """``b_k`` with the axis of the device's antennas, also where that is 1."""
        return self.transmit_scalars[..., None] if self.device_antennas == 1 else self.transmit_scalars

    def require_fit(self, shape: tuple[int, ...], field: str) -> None:
        """Raise `ValueError` unless the design is finite and fits a problem of `shape`, (batch, K, N, T).

        One design may serve a whole batch.
        """
        *batch, devices, antennas, device_antennas = shape
        vectors, beamformer = self.transmit_vectors, self.receive_beamformer
        ends = vectors.shape[-2:] == (devices, device_antennas) and beamformer.shape[-1] == antennas
        if not (ends and _repeats(vectors.shape[:-2], batch) and _repeats(beamformer.shape[:-1], batch)):
            raise ValueError(
                f"{field} has transmit_scalars of shape {self.transmit_scalars.shape} and a "
                f"receive_beamformer of shape {beamformer.shape}, but the problem has {devices} devices, "
                f"{antennas} antennas and the batch {tuple(batch)}: give a design of these sizes"
            )
        if not (np.isfinite(vectors).all() and np.isfinite(beamformer).all()):
            raise ValueError(f"{field} has an entry that is not finite: give numbers")

    @property
    def power_w(self) -> Float[np.ndarray, "*batch K"]:
        """Power that each device spends: ``|b_k|^2``."""
        power_w = np.abs(self.transmit_scalars) ** 2
        return power_w if self.device_antennas == 1 else power_w.sum(axis=-1)


def _repeats(own: tuple[int, ...], batch: list[int]) -> bool:
    """Whether axes of a design repeat to those of a batch."""
    pairs = zip(own[::-1], batch[::-1], strict=False)
    return len(own) <= len(batch) and all(size in (1, wanted) for size, wanted in pairs)


@dataclass(frozen=True, eq=False)
class CombinedDesign:
    """The base station's design (all devices) and one per edge server (its own members, in their order)."""

    base_station: TransceiverDesign
    edge_servers: tuple[TransceiverDesign, ...]

    @property
    def streams(self) -> tuple[TransceiverDesign, ...]:
        """Base station first, then the edge servers."""
        return (self.base_station, *self.edge_servers)
