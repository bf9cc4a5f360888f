"""Phase majorise-minimise from several starting points: the default for several antennas."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim import normal_form
from optim.combined import joint
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.homotopy import COARSE
from optim.momentum import trial_points
from optim.options import SolverOptions
from optim.phase_step import phase_step
from optim.problem import AirCompProblem
from optim.solution import Solution
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.descent import best_of, descend, flat_copies, rescaled
from optim.starts import screened_starts
from optim.threshold import scaled_along


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

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        form = normal_form.apply(problem)
        starts = screened_starts(form.rows, form.targets, self.options.starts, self.options.generator())
        rows, targets = flat_copies(form.rows, form.targets, self.options.starts)
        arrived = tracked(rows, targets, starts.reshape(len(rows), -1))
        points, histories = descend(rows, targets, arrived, accelerated_step, self.options)
        best, endings = best_of(points, histories, len(form.rows), self.options)
        return assemble_beams(problem, form, best, rescaled(endings, form))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        return joint.descend(problem, self.options)


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
    """A few accelerated steps on each softer problem in turn; each problem has its own levels."""
    softest, points = COARSE.softest_factors(rows, targets), points.copy()
    counts = COARSE.level_counts(softest)
    for level in range(int(counts.max(initial=0)), 0, -1):
        started = np.flatnonzero(counts >= level)
        softer = rows[started] * COARSE.factors_at(softest[started], level)[:, None, None]
        points[started] = _short_descent(softer, targets[started], points[started])
    return scaled_along(rows, targets, points)


def _short_descent(
    rows: Complex[np.ndarray, "B K n"], targets: Float[np.ndarray, "B K"], points: Complex[np.ndarray, "B n"]
) -> Complex[np.ndarray, "B n"]:
    points, moves = scaled_along(rows, targets, points), np.zeros_like(points)
    for _ in range(COARSE.steps):
        stepped, _ = accelerated_step(rows, targets, points, moves)
        moves, points = stepped - points, stepped
    return points
