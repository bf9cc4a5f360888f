"""The normal form of a combined problem: whitened rows, one stack per phase, and the exact way back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Shaped

from optim import mse
from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
from optim.combined.canonical_rows import canonical_rows
from optim.combined.power_split import DeviceBudgets, nonzero
from optim.combined.problem import CombinedProblem
from optim.combined.stack import ReceiverStack, stack_receivers
from optim.design import CombinedDesign, TransceiverDesign

# One array per phase, (*batch, receivers, n), each in the dimensions of its own stack.
Beams = tuple[Complex[np.ndarray, "... _ _"], ...]
Power = Float[np.ndarray, "*batch J K"]


def per_stack(
    function: Callable[..., np.ndarray], *parts: Sequence[Any]
) -> tuple[Shaped[np.ndarray, "..."], ...]:
    """The function's values phase by phase."""
    return tuple(function(*phase) for phase in zip(*parts, strict=True))


@dataclass(frozen=True, eq=False)
class CombinedForm:
    """One stack per phase (base station, edge servers, block by block) and devices as budgets.

    Errors are relative to `scale`. Misalignment has weight 1 here: noise is divided by the problem's weight.
    """

    problem: CombinedProblem | MultiBlockProblem
    stacks: tuple[ReceiverStack, ...]
    budgets: DeviceBudgets
    bases: tuple[Complex[np.ndarray, "_ _"], ...]
    reference_power_w: Float[np.ndarray, "K"]
    target_norm: float

    @property
    def scale(self) -> float:
        """Objective of silence; all errors inside are fractions of it."""
        return self.problem.misalignment_weight * self.target_norm**2

    @property
    def reference_divisor_w(self) -> Float[np.ndarray, "K"]:
        """Reference powers to divide by: 1 W for a device that has none."""
        return np.where(self.reference_power_w > 0, self.reference_power_w, 1.0)

    @property
    def reachable(self) -> Bool[np.ndarray, "J K"]:
        """Which transmissions of each device can arrive at all."""
        return np.stack([(s.rows != 0).any(axis=-1)[s.receiver_of, s.slot_of] for s in self.stacks])

    @property
    def silent(self) -> bool:
        """Whether nobody with a target can be heard anywhere."""
        return not (self.reachable & (self.budgets.targets > 0)).any()

    @property
    def interfering(self) -> bool:
        """Whether some receiver hears devices that serve others: what no bound here takes into account."""
        return any(stack.cross is not None and stack.cross.any() for stack in self.stacks)

    @property
    def device_weights(self) -> Float[np.ndarray, "J K"]:
        """Weight of each device's misalignments: ``W_i = alpha_i rho_i``."""
        return self.budgets.shares * self.budgets.priorities

    def softened(self, factors: Sequence[Float[np.ndarray, "_"]]) -> "CombinedForm":
        """The same problem with each receiver's rows multiplied by a factor."""
        softer = (
            replace(stack, rows=stack.rows * factor[:, None, None])
            for stack, factor in zip(self.stacks, factors, strict=True)
        )
        return replace(self, stacks=tuple(softer))

    def strengths(self, beams: Beams) -> Power:
        """Gains of all transmissions of every device, at reference power."""
        pairs = zip(self.stacks, beams, strict=True)
        return np.stack([stack.strengths(points) for stack, points in pairs], axis=-2)

    def leaks(self, beams: Beams) -> Power:
        """Harm to others per unit of relative power, in the units of :func:`best_split`."""
        pairs = zip(self.stacks, beams, strict=True)
        harm = np.stack([stack.leaks(points) for stack, points in pairs], axis=-2)
        return harm / nonzero(self.budgets.shares)

    def error(self, beams: Beams, strengths: Power, power: Power) -> Float[np.ndarray, "*batch"]:
        """The objective relative to silence when each device uses at most the given relative powers."""
        shortfall = np.maximum(self.budgets.targets - np.sqrt(power) * strengths, 0.0)
        missing = (self.device_weights * shortfall**2).sum(axis=(-2, -1))
        if self.interfering:
            missing = missing + (self.budgets.shares * power * self.leaks(beams)).sum(axis=(-2, -1))
        return np.asarray(
            missing + sum(s.noise(points) for s, points in zip(self.stacks, beams, strict=True))
        )

    def design(self, beams: Beams, power: Float[np.ndarray, "J K"]) -> CombinedDesign | MultiBlockDesign:
        """The beams and relative power caps as a design of the original problem."""
        power_w = power * self.reference_power_w
        points = [point for stacked in beams for point in stacked]
        parts = zip(self.places, self.bases, points, strict=True)
        designs = iter([self._stream_design(*part, power_w) for part in parts])
        per_block = [
            CombinedDesign(next(designs), tuple(next(designs) for _ in block.members))
            for block in self.problem.blocks
        ]
        return self.problem.joined(per_block)

    def project(self, design: CombinedDesign | MultiBlockDesign) -> Beams:
        """The beams of a design, less what no channel can excite."""
        beams = tuple(np.zeros((len(s.rows), s.rows.shape[-1]), dtype=np.complex128) for s in self.stacks)
        places = [(phase, receiver) for phase, points in enumerate(beams) for receiver in range(len(points))]
        streams = zip(places, self.places, design.streams, self.bases, strict=True)
        for (phase, receiver), (number, index), part, basis in streams:
            block = self.problem.blocks[number]
            deviation = np.sqrt(block.noise_power_w[index] / block.misalignment_weight)
            whitened = part.receive_beamformer * deviation / self.target_norm
            point = basis.conj().T @ whitened
            beams[phase][receiver, : len(point)] = point
        return beams

    @property
    def places(self) -> list[tuple[int, int]]:
        """Number of the block, and number within it, of every stream."""
        blocks = enumerate(self.problem.blocks)
        return [(number, index) for number, block in blocks for index in range(1 + block.num_edge_servers)]

    def _stream_design(
        self,
        place: tuple[int, int],
        basis: Complex[np.ndarray, "N n"],
        point: Complex[np.ndarray, "_"],
        power_w: Float[np.ndarray, "J K"],
    ) -> TransceiverDesign:
        number, index = place
        block = self.problem.blocks[number]
        stream = block.streams_at_peak[index]
        cap = power_w[2 * number + min(index, 1), block.devices_of(index)]
        direction = basis @ point[: basis.shape[1]]
        deviation = np.sqrt(stream.noise_power_w / block.misalignment_weight)
        beamformer = direction * (self.target_norm / deviation)
        gains = mse.beam_gains(stream, beamformer)
        return TransceiverDesign(mse.inverting_vectors(gains, stream.target_gains, cap)[:, 0], beamformer)


def normalise(problem: CombinedProblem | MultiBlockProblem) -> CombinedForm:
    """The normal form of a combined problem. A stream without weight in Pi becomes one without targets."""
    norm = _target_norm(problem)
    # Equal split at the reference power always fits both limits.
    reference_w = np.minimum(problem.average_power_w, problem.peak_power_w)
    stacks: list[ReceiverStack] = []
    bases: list[Complex[np.ndarray, "_ _"]] = []
    for block, share in zip(problem.blocks, problem.block_shares, strict=True):
        targets = [target / norm for target in _weighted_targets(block)]
        turned = [canonical_rows(block, n, targets[n], reference_w) for n in range(len(targets))]
        rows = [part for part, _ in turned]
        weights, everyone = share * block.stream_weights, np.arange(block.num_devices)
        stacks.append(stack_receivers(rows[:1], targets[:1], weights[:1], (everyone,), reuse=False))
        stacks.append(stack_receivers(rows[1:], targets[1:], weights[1:], block.members, block.reuse))
        bases.extend(basis for _, basis in turned)
    budgets = _device_budgets(problem, stacks, reference_w)
    return CombinedForm(problem, tuple(stacks), budgets, tuple(bases), reference_w, norm)


def _weighted_targets(block: CombinedProblem) -> list[Float[np.ndarray, "_"]]:
    pairs = zip(block.stream_weights, block.targets, strict=True)
    return [np.where(weight > 0, target, 0.0) for weight, target in pairs]


def _target_norm(problem: CombinedProblem | MultiBlockProblem) -> float:
    """Root of Pi of silence: the same in every block."""
    block = problem.blocks[0]
    pairs = zip(block.stream_weights, _weighted_targets(block), strict=True)
    silence = sum(weight * (target**2).sum() for weight, target in pairs)
    return float(np.sqrt(silence)) if silence > 0 else 1.0


def _device_budgets(
    problem: CombinedProblem | MultiBlockProblem,
    stacks: list[ReceiverStack],
    reference_w: Float[np.ndarray, "K"],
) -> DeviceBudgets:
    heard = reference_w > 0
    safe = np.where(heard, reference_w, 1.0)
    block = problem.blocks[0]
    importance = block.task_sizes / block.data_sizes.sum()
    personal = importance[stacks[1].receiver_of]
    return DeviceBudgets(
        targets=np.stack([stack.targets[stack.receiver_of, stack.slot_of] for stack in stacks]),
        priorities=np.tile(np.stack([np.ones(block.num_devices), personal]), (len(problem.blocks), 1)),
        shares=np.outer(problem.block_shares, block.shares).reshape(-1, 1),
        average=np.where(heard, problem.average_power_w / safe, 1.0),
        peak=np.where(heard, problem.peak_power_w / safe, 1.0),
    )
