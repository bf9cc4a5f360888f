"""The normal form of a combined problem: whitened rows in two stacks, and the exact way back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from optim import mse
from optim.combined.power_split import DeviceBudgets
from optim.combined.problem import CombinedProblem
from optim.design import CombinedDesign, TransceiverDesign
from optim.normal_form import shrink
from optim.phase_step import arriving

# Base station (*batch, 1, n) and edge servers (*batch, E, n), each in the dimensions of its own stack.
Beams = tuple[Complex[np.ndarray, "... _ _"], Complex[np.ndarray, "... _ _"]]


def per_stack(
    function: Callable[..., np.ndarray], *pairs: Sequence[Any]
) -> tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]:
    """The function's values for the base station and for the edge servers."""
    base, edges = (function(*parts) for parts in zip(*pairs, strict=True))
    return base, edges


@dataclass(frozen=True, eq=False)
class ReceiverStack:
    """Receivers padded to one shape: rows at reference power, targets, weights in Pi.

    `devices[i, j]` is the device in slot j of receiver i; empty slots have zero rows and zero targets.
    """

    rows: Complex[np.ndarray, "receivers slots n"]
    targets: Float[np.ndarray, "receivers slots"]
    weights: Float[np.ndarray, "receivers"]
    devices: Int[np.ndarray, "receivers slots"]
    receiver_of: Int[np.ndarray, "K"]
    slot_of: Int[np.ndarray, "K"]

    def strengths(self, points: Complex[np.ndarray, "*batch receivers n"]) -> Float[np.ndarray, "*batch K"]:
        """Gain of every device behind its receiver's beamformer, at reference power."""
        return np.abs(arriving(self.rows, points))[..., self.receiver_of, self.slot_of]

    def powered_rows(
        self, power: Float[np.ndarray, "*batch K"]
    ) -> Complex[np.ndarray, "*batch receivers slots n"]:
        """Rows scaled to the given relative powers."""
        return np.sqrt(power)[..., self.devices, None] * self.rows

    def noise(self, points: Complex[np.ndarray, "*batch receivers n"]) -> Float[np.ndarray, "*batch"]:
        """Weighted noise of all receivers."""
        return np.asarray(((np.abs(points) ** 2).sum(axis=-1) * self.weights).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class CombinedForm:
    """Base station and edge servers as one stack each, devices as budgets; errors relative to `scale`."""

    problem: CombinedProblem
    stacks: tuple[ReceiverStack, ReceiverStack]
    budgets: DeviceBudgets
    bases: tuple[Complex[np.ndarray, "_ _"] | None, ...]
    reference_power_w: Float[np.ndarray, "K"]
    target_norm: float

    @property
    def scale(self) -> float:
        """Pi of silence; all errors inside are fractions of it."""
        return self.target_norm**2

    @property
    def reference_divisor_w(self) -> Float[np.ndarray, "K"]:
        """Reference powers to divide by: 1 W for a device that has none."""
        return np.where(self.reference_power_w > 0, self.reference_power_w, 1.0)

    @property
    def reachable(self) -> Bool[np.ndarray, "2 K"]:
        """Which transmissions of each device can arrive at all."""
        return np.stack([(s.rows != 0).any(axis=-1)[s.receiver_of, s.slot_of] for s in self.stacks])

    @property
    def silent(self) -> bool:
        """Whether nobody with a target can be heard anywhere."""
        return not (self.reachable & (self.budgets.targets > 0)).any()

    @property
    def device_weights(self) -> Float[np.ndarray, "2 K"]:
        """Weight in Pi of each device's two misalignments: ``W_i = alpha_i rho_i``."""
        return self.budgets.shares * self.budgets.priorities

    def softened(self, factors: tuple[Float[np.ndarray, "1"], Float[np.ndarray, "E"]]) -> "CombinedForm":
        """The same problem with each receiver's rows multiplied by a factor."""
        base, edges = (
            replace(stack, rows=stack.rows * factor[:, None, None])
            for stack, factor in zip(self.stacks, factors, strict=True)
        )
        return replace(self, stacks=(base, edges))

    def strengths(self, beams: Beams) -> Float[np.ndarray, "*batch 2 K"]:
        """Gains of both transmissions of every device, at reference power."""
        pairs = zip(self.stacks, beams, strict=True)
        return np.stack([stack.strengths(points) for stack, points in pairs], axis=-2)

    def error(
        self, beams: Beams, strengths: Float[np.ndarray, "*batch 2 K"], power: Float[np.ndarray, "*batch 2 K"]
    ) -> Float[np.ndarray, "*batch"]:
        """Pi, relative to silence, when each device uses at most the given relative powers."""
        shortfall = np.maximum(self.budgets.targets - np.sqrt(power) * strengths, 0.0)
        missing = (self.device_weights * shortfall**2).sum(axis=(-2, -1))
        return np.asarray(
            missing + sum(s.noise(points) for s, points in zip(self.stacks, beams, strict=True))
        )

    def design(self, beams: Beams, power: Float[np.ndarray, "2 K"]) -> CombinedDesign:
        """The beams and relative power caps as a design of the original problem."""
        power_w = power * self.reference_power_w
        caps = [power_w[0], *(power_w[1, task] for task in self.problem.members)]
        streams, points = self.problem.streams_at_peak, [beams[0][0], *beams[1]]
        designs = []
        for stream, cap, point, basis in zip(streams, caps, points, self.bases, strict=True):
            unpadded = point[: min(stream.channel.shape)]
            direction = unpadded if basis is None else basis @ unpadded
            beamformer = direction * (self.target_norm / np.sqrt(stream.noise_power_w))
            gains = mse.beam_gains(stream, beamformer)
            designs.append(
                TransceiverDesign(mse.inverting_vectors(gains, stream.target_gains, cap)[:, 0], beamformer)
            )
        return CombinedDesign(designs[0], tuple(designs[1:]))

    def project(self, design: CombinedDesign) -> Beams:
        """The beams of a design, less what no channel can excite."""
        beams = tuple(np.zeros((len(s.rows), s.rows.shape[-1]), dtype=np.complex128) for s in self.stacks)
        noise_w = self.problem.noise_power_w
        for stream, (part, basis) in enumerate(zip(design.streams, self.bases, strict=True)):
            whitened = part.receive_beamformer * np.sqrt(noise_w[stream]) / self.target_norm
            point = whitened if basis is None else basis.conj().T @ whitened
            beams[min(stream, 1)][max(stream - 1, 0), : len(point)] = point
        base, edges = beams
        return base, edges


def normalise(problem: CombinedProblem) -> CombinedForm:
    """The normal form of a combined problem. A stream without weight in Pi becomes one without targets."""
    weights = problem.stream_weights
    targets = [
        np.where(weight > 0, target, 0.0) for weight, target in zip(weights, problem.targets, strict=True)
    ]
    silence = sum(weight * (target**2).sum() for weight, target in zip(weights, targets, strict=True))
    norm = float(np.sqrt(silence)) if silence > 0 else 1.0
    # Equal split at the reference power always fits both limits.
    reference_w = np.minimum(problem.average_power_w, problem.peak_power_w)
    shrunk = [_whitened_rows(problem, stream, reference_w) for stream in range(1 + problem.num_edge_servers)]
    rows = [part for part, _ in shrunk]
    everyone = np.arange(problem.num_devices)
    base = _stack(rows[:1], [targets[0] / norm], weights[:1], (everyone,))
    edges = _stack(rows[1:], [target / norm for target in targets[1:]], weights[1:], problem.members)
    return CombinedForm(
        problem=problem,
        stacks=(base, edges),
        budgets=_device_budgets(problem, (base, edges), reference_w),
        bases=tuple(basis for _, basis in shrunk),
        reference_power_w=reference_w,
        target_norm=norm,
    )


def _whitened_rows(
    problem: CombinedProblem, stream: int, reference_w: Float[np.ndarray, "K"]
) -> tuple[Complex[np.ndarray, "_ _"], Complex[np.ndarray, "_ _"] | None]:
    channel = problem.edge_channels[stream - 1] if stream else problem.base_station_channel
    devices = problem.members[stream - 1] if stream else slice(None)
    whitened = channel.conj() / np.sqrt(problem.noise_power_w[stream])
    return shrink(whitened * np.sqrt(reference_w[devices])[:, None])


def _stack(
    rows: list[Complex[np.ndarray, "_ _"]],
    targets: list[Float[np.ndarray, "_"]],
    weights: Float[np.ndarray, "receivers"],
    members: tuple[Int[np.ndarray, "_"], ...],
) -> ReceiverStack:
    """Pad with silent devices and dead antennas to the largest receiver."""
    shape = (
        len(rows),
        max((len(part) for part in rows), default=0),
        max((part.shape[1] for part in rows), default=0),
    )
    stack = ReceiverStack(
        rows=np.zeros(shape, dtype=np.complex128),
        targets=np.zeros(shape[:2]),
        weights=weights,
        devices=np.zeros(shape[:2], dtype=np.int64),
        receiver_of=np.zeros(sum(map(len, members)), dtype=np.int64),
        slot_of=np.zeros(sum(map(len, members)), dtype=np.int64),
    )
    for receiver, (part, wanted, devices) in enumerate(zip(rows, targets, members, strict=True)):
        stack.rows[receiver, : len(part), : part.shape[1]] = part
        stack.targets[receiver, : len(part)] = wanted
        stack.devices[receiver, : len(part)] = devices
        stack.receiver_of[devices] = receiver
        stack.slot_of[devices] = np.arange(len(devices))
    return stack


def _device_budgets(
    problem: CombinedProblem, stacks: tuple[ReceiverStack, ReceiverStack], reference_w: Float[np.ndarray, "K"]
) -> DeviceBudgets:
    heard = reference_w > 0
    safe = np.where(heard, reference_w, 1.0)
    importance = problem.task_sizes / problem.data_sizes.sum()
    return DeviceBudgets(
        targets=np.stack([stack.targets[stack.receiver_of, stack.slot_of] for stack in stacks]),
        priorities=np.stack([np.ones(problem.num_devices), importance[stacks[1].receiver_of]]),
        shares=np.array(problem.shares)[:, None],
        average=np.where(heard, problem.average_power_w / safe, 1.0),
        peak=np.where(heard, problem.peak_power_w / safe, 1.0),
    )
