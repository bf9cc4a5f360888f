"""One phase of a round: its receivers padded to one shape, so that all are computed at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from optim.phase_step import arriving

Points = Complex[np.ndarray, "*batch receivers n"]


@dataclass(frozen=True, eq=False)
class ReceiverStack:
    """Receivers of one phase: rows at reference power, targets, weights in Pi.

    `devices[i, j]` is the device in slot j of receiver i; empty slots have zero rows and targets. `cross`
    holds the rows of devices that a receiver hears though they serve others; None without task reuse.
    """

    rows: Complex[np.ndarray, "receivers slots n"]
    targets: Float[np.ndarray, "receivers slots"]
    weights: Float[np.ndarray, "receivers"]
    devices: Int[np.ndarray, "receivers slots"]
    receiver_of: Int[np.ndarray, "K"]
    slot_of: Int[np.ndarray, "K"]
    cross: Complex[np.ndarray, "receivers K n"] | None = None

    def strengths(self, points: Points) -> Float[np.ndarray, "*batch K"]:
        """Gain of every device behind its receiver's beamformer, at reference power."""
        return np.abs(arriving(self.rows, points))[..., self.receiver_of, self.slot_of]

    def leaks(self, points: Points) -> Float[np.ndarray, "*batch K"]:
        """What each device adds to Pi at other receivers, at reference power."""
        if self.cross is None:
            return np.zeros((*points.shape[:-2], len(self.receiver_of)))
        power = np.abs(arriving(self.cross, points)) ** 2
        return (power * self.weights[:, None]).sum(axis=-2)

    def powered_rows(
        self, power: Float[np.ndarray, "*batch K"]
    ) -> Complex[np.ndarray, "*batch receivers slots n"]:
        """Rows scaled to the given relative powers."""
        return np.sqrt(power)[..., self.devices, None] * self.rows

    def noise(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """Weighted noise of all receivers."""
        return np.asarray(((np.abs(points) ** 2).sum(axis=-1) * self.weights).sum(axis=-1))


def stack_receivers(
    rows: Sequence[Complex[np.ndarray, "_ _"]],
    targets: Sequence[Float[np.ndarray, "_"]],
    weights: Float[np.ndarray, "receivers"],
    members: Sequence[Int[np.ndarray, "_"]],
    reuse: bool,
) -> ReceiverStack:
    """Pad with silent devices and dead antennas to the largest receiver.

    `rows` are those of the members; with `reuse` those of all devices.
    """
    num_devices = sum(map(len, members))
    own = [part[devices] for part, devices in zip(rows, members, strict=True)] if reuse else rows
    size = max((part.shape[1] for part in rows), default=0)
    shape = (len(rows), max((len(part) for part in own), default=0), size)
    stack = ReceiverStack(
        rows=np.zeros(shape, dtype=np.complex128),
        targets=np.zeros(shape[:2]),
        weights=weights,
        devices=np.zeros(shape[:2], dtype=np.int64),
        receiver_of=np.zeros(num_devices, dtype=np.int64),
        slot_of=np.zeros(num_devices, dtype=np.int64),
        cross=_padded_cross(rows, members, size) if reuse else None,
    )
    for receiver, (part, wanted, devices) in enumerate(zip(own, targets, members, strict=True)):
        stack.rows[receiver, : len(part), : part.shape[1]] = part
        stack.targets[receiver, : len(part)] = wanted
        stack.devices[receiver, : len(part)] = devices
        stack.receiver_of[devices] = receiver
        stack.slot_of[devices] = np.arange(len(devices))
    return stack


def _padded_cross(
    rows: Sequence[Complex[np.ndarray, "_ _"]], members: Sequence[Int[np.ndarray, "_"]], size: int
) -> Complex[np.ndarray, "receivers K n"]:
    cross = np.zeros((len(rows), sum(map(len, members)), size), dtype=np.complex128)
    for receiver, (part, devices) in enumerate(zip(rows, members, strict=True)):
        cross[receiver, :, : part.shape[1]] = part
        cross[receiver, devices] = 0
    return cross
