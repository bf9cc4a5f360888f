"""Bound, starts drawn from it, sequential quadratic programming: the default for several antennas."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim import normal_form, quasi_newton, sqp
from optim.combined import design
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.homotopy import FINE
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import arriving, magnitudes
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.starts import drawn_starts, repeated, starting_points
from optim.threshold import scaled_along
from optim.tight_bound import LARGEST_SYSTEM, relaxed, tempering

# Entries of one problem's rows beyond which descents go by gradients alone.
LARGEST_SECOND_ORDER = 1_000_000
# Devices per dimension beyond which descents go through softer problems first.
CROWD = 8
# Entries of the rows of all starts in a chunk.
CHUNK_ENTRIES = 400_000


@final
@dataclass(frozen=True)
class SequentialQuadratic(AbstractTransceiverSolver):
    """Starts from the solution of the lifted problem, descents with the exact curvature, a tight bound.

    The first start is the principal eigenvector of the relaxation's X, the others are samples of it. With one
    start the design is usually optimal for few devices; 32 starts found every optimum that could be proved.
    Combined problems go the same way, with the devices' energy split in the curvature; under task reuse the
    bound leaves out the interference, so those designs are not certified.
    """

    takes_device_antennas = True
    takes_task_reuse = True
    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        form = normal_form.apply(problem)
        return assemble_beams(problem, form, *designed(form, self.options))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        return design.design(problem, self.options)


class Designed(NamedTuple):
    """Beamformers in normal form, how their descents ended, and the multipliers of the bound, if any."""

    points: Complex[np.ndarray, "B n"]
    endings: list[tuple[Status, History]]
    multipliers: Float[np.ndarray, "1 B K"] | None


def designed(form: NormalForm, options: SolverOptions) -> Designed:
    """The best descent of each problem from the starts of its bound."""
    factor = tempering(form)
    soft = form.rows if (factor == 1).all() else form.rows * factor[:, None, None]
    multipliers, starts = bound_and_starts(soft, form.targets, options)
    points, endings = _descend_all(form, soft, starts, options)
    # At full strength the best scale changes only for tempered problems.
    points = scaled_along(form.rows, form.targets, points, form.device_antennas)
    loose = form.targets.shape[-1] > LARGEST_SYSTEM and bool(np.isfinite(options.bound_tolerance))
    if loose:
        endings = [(Status.LOOSE_BOUND if s is Status.CONVERGED else s, history) for s, history in endings]
    return Designed(points, _led_to(form, points, endings, whole=factor == 1), multipliers)


def _led_to(
    form: NormalForm,
    points: Complex[np.ndarray, "B n"],
    endings: list[tuple[Status, History]],
    whole: Bool[np.ndarray, "B"],
) -> list[tuple[Status, History]]:
    """Endings whose histories fall to the objective reached; errors of a tempered problem are not its own."""
    size = magnitudes(arriving(form.rows, points), form.device_antennas)
    errors = (np.abs(points) ** 2).sum(axis=-1) + (np.maximum(form.targets - size, 0.0) ** 2).sum(axis=-1)
    ends = form.objective(errors).tolist()
    return [
        (status, (*(value for value in (history if own else ()) if value > end), end))
        for (status, history), end, own in zip(endings, ends, whole, strict=True)
    ]


def bound_and_starts(
    rows: Complex[np.ndarray, "B KT n"], targets: Float[np.ndarray, "B K"], options: SolverOptions
) -> tuple[Float[np.ndarray, "1 B K"] | None, Complex[np.ndarray, "S B n"]]:
    """Multipliers of the tight bound and starts from its X; without a bound, starts from the channels."""
    rng = options.generator()
    if np.isfinite(options.bound_tolerance):
        multipliers, lift = relaxed(rows, targets, options.bound_tolerance)
        return multipliers[None], drawn_starts(lift, options.starts, rng)
    return None, starting_points(rows, targets, options.starts, rng)


def _descend_all(
    form: NormalForm,
    rows: Complex[np.ndarray, "B KT n"],
    starts: Complex[np.ndarray, "S B n"],
    options: SolverOptions,
) -> tuple[Complex[np.ndarray, "B n"], list[tuple[Status, History]]]:
    """The best descent of each problem, and how it ended; as many problems at a time as fit a chunk."""
    points, endings = np.empty(starts.shape[1:], dtype=np.complex128), []
    chunk = max(1, CHUNK_ENTRIES // max(len(starts) * int(np.prod(rows.shape[1:])), 1))
    for begin in range(0, len(rows), chunk):
        part = slice(begin, begin + chunk)
        many_rows, many_targets = repeated(rows[part], len(starts)), repeated(form.targets[part], len(starts))
        begun = scaled_along(many_rows, many_targets, starts[:, part], form.device_antennas)
        flat_rows = many_rows.reshape(-1, *rows.shape[1:])
        flat_targets = many_targets.reshape(-1, form.targets.shape[-1])
        begun = begun.reshape(len(flat_rows), -1)
        second_order = flat_rows[0].size <= LARGEST_SECOND_ORDER
        approach, descend = (
            (sqp.descend,) * 2 if second_order else (quasi_newton.approach, quasi_newton.descend)
        )
        if flat_targets.shape[-1] >= CROWD * begun.shape[-1]:
            begun = tracked(approach, flat_rows, flat_targets, begun, options)
        descent = descend(flat_rows, flat_targets, begun, options)
        errors = descent.errors.reshape(len(starts), -1)
        best = np.argmin(errors, axis=0) * errors.shape[1] + np.arange(errors.shape[1])
        points[part] = descent.points[best]
        endings += _endings(descent, best, form.scale[part], form.lost[part])
    return points, endings


def tracked(
    approach: Callable[..., sqp.Descent],
    rows: Complex[np.ndarray, "B KT n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    options: SolverOptions,
) -> Complex[np.ndarray, "B n"]:
    """A few steps on each softer problem in turn, so that crowded problems end in a good valley."""
    softest = FINE.softest_factors(rows, targets)
    short = replace(options, max_iterations=FINE.steps)
    device_antennas = rows.shape[-2] // targets.shape[-1]
    for level in range(int(FINE.level_counts(softest).max(initial=0)), 0, -1):
        softer = rows * FINE.factors_at(softest, level)[:, None, None]
        points = approach(
            softer, targets, scaled_along(softer, targets, points, device_antennas), short
        ).points
    return scaled_along(rows, targets, points, device_antennas)


def _endings(
    descent: sqp.Descent,
    best: Int[np.ndarray, "B"],
    scale: Float[np.ndarray, "B"],
    lost: Float[np.ndarray, "B"],
) -> list[tuple[Status, History]]:
    """Status and history of the chosen descents, in the problem's units."""
    chosen = descent.history[:, best]
    lengths = 1 + (chosen > chosen[-1]).sum(axis=0)  # errors before the last fall, and the last
    histories = (chosen * scale + lost).T.tolist()
    statuses = [
        Status.CONVERGED if rest else Status.ITERATION_LIMIT for rest in descent.settled[best].tolist()
    ]
    return [
        (status, tuple(history[:length]))
        for status, history, length in zip(statuses, histories, lengths.tolist(), strict=True)
    ]
