"""Phase majorise-minimise from several starting points: the default for several antennas."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim import normal_form
from optim.combined.joint import descend
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.phase_step import phase_step, reduced_error
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.homotopy import softening_levels
from optim.momentum import trial_points
from optim.options import SolverOptions
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.starts import screened_starts
from optim.threshold import scaled_along

STEPS_PER_LEVEL = 3


@final
@dataclass(frozen=True)
class PhaseMajoriseMinimise(AbstractTransceiverSolver):
    r"""Freeze the phases of the arriving signals, solve the convex rest exactly, repeat.

    .. math:: m \leftarrow \arg\min_m\ \sigma^2 \|m\|^2
              + \sum_k \big(\omega_k - \sqrt{P_k}\,\Re\{e^{-j\theta_k} m^H h_k\}\big)_+^2,
              \qquad \theta_k = \arg(m_{\rm old}^H h_k)

    The error never rises and the limit is stationary. Powers and the beamformer's length are
    optimised together, which is why it does not stall at high signal-to-noise ratios as alternating steps do.
    The combined problem alternates one such step per receiver with the exact power split of every device.
    """

    options: SolverOptions = SolverOptions()

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        form = normal_form.apply(problem)
        starts = screened_starts(form.rows, form.targets, self.options.starts, self.options.generator())
        points, endings = best_of_starts(form.rows, form.targets, starts, self.options)
        scaled = [(s, tuple(e * n**2 for e in h)) for (s, h), n in zip(endings, form.target_norm, strict=True)]
        return assemble_beams(problem, form, points, scaled)

    def solve_combined(self, problem: CombinedProblem) -> CombinedSolution:
        return descend(problem, self.options)


def best_of_starts(
    rows: Complex[np.ndarray, "B K n"],
    targets: Float[np.ndarray, "B K"],
    starts: Complex[np.ndarray, "S B n"],
    options: SolverOptions,
) -> tuple[Complex[np.ndarray, "B n"], list[tuple[Status, History]]]:
    """Descend from every start and keep the smallest error of each problem."""
    num_starts, num_problems, dimension = starts.shape
    every = np.broadcast_to(rows, (num_starts, *rows.shape)).reshape(-1, *rows.shape[1:])
    wanted = np.broadcast_to(targets, (num_starts, *targets.shape)).reshape(-1, targets.shape[-1])
    arrived = tracked(every, wanted, starts.reshape(-1, dimension))
    points, histories = descend_phases(every, wanted, arrived, options)
    final_errors = np.array([history[-1] for history in histories]).reshape(num_starts, num_problems)
    best = np.argmin(final_errors, axis=0)
    chosen = [int(start) * num_problems + index for index, start in enumerate(best)]
    return points[chosen], [(ending(histories[i], options), histories[i]) for i in chosen]


def descend_phases(
    rows: Complex[np.ndarray, "B K n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    options: SolverOptions,
) -> tuple[Complex[np.ndarray, "B n"], list[History]]:
    """Accelerated phase steps until each problem's error falls by less than the tolerance; finished ones drop out."""
    points, moves = points.copy(), np.zeros_like(points)
    errors = reduced_error(rows, targets, points)
    histories = [[float(error)] for error in errors]
    running = np.arange(len(points))
    for _ in range(options.max_iterations):
        trial, new_errors = accelerated_step(rows[running], targets[running], points[running], moves[running])
        fall = errors[running] - new_errors
        better = fall > 0  # a step that rounding spoilt is not taken
        moved = running[better]
        moves[moved] = trial[better] - points[moved]
        points[moved], errors[moved] = trial[better], new_errors[better]
        for index in moved:
            histories[index].append(float(errors[index]))
        running = running[fall > options.tolerance * errors[running]]
        if not running.size:
            break
    return points, [tuple(history) for history in histories]


def accelerated_step(
    rows: Complex[np.ndarray, "B K n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    moves: Complex[np.ndarray, "B n"],
) -> tuple[Complex[np.ndarray, "B n"], Float[np.ndarray, "B"]]:
    """For each problem the best trial around its phase step, and the error there."""
    trials = trial_points(points, phase_step(rows, targets, points), moves)  # T B n
    arrived = np.abs(trials.swapaxes(0, 1) @ np.swapaxes(rows, -1, -2))  # B T K
    shortfall = np.maximum(targets[:, None] - arrived, 0.0)
    errors = (shortfall**2).sum(axis=-1) + (np.abs(trials) ** 2).sum(axis=-1).T  # B T
    best = np.argmin(errors, axis=-1)
    every = np.arange(len(points))
    return trials[best, every], errors[every, best]


def tracked(
    rows: Complex[np.ndarray, "B K n"], targets: Float[np.ndarray, "B K"], points: Complex[np.ndarray, "B n"]
) -> Complex[np.ndarray, "B n"]:
    """A few accelerated steps on each softer problem in turn."""
    for level in softening_levels(rows):
        softer, moves = rows * level[:, None, None], np.zeros_like(points)
        points = scaled_along(softer, targets, points)
        for _ in range(STEPS_PER_LEVEL):
            stepped, _ = accelerated_step(softer, targets, points, moves)
            moves, points = stepped - points, stepped
    return scaled_along(rows, targets, points)


def ending(history: History, options: SolverOptions) -> Status:
    """Whether a descent came to rest or ran out of iterations."""
    return Status.CONVERGED if _at_rest(history, options) else Status.ITERATION_LIMIT


def _at_rest(history: History, options: SolverOptions) -> bool:
    if len(history) <= options.max_iterations:
        return True
    return history[-2] - history[-1] <= options.tolerance * history[-1]
