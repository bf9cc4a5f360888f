"""Alternating MMSE: the textbook reference, exact in each half and slow where it matters."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim import normal_form
from optim.combined.certify import certified
from optim.combined.form import Beams, CombinedForm, normalise
from optim.combined.mse import AnyProblem
from optim.combined.power_split import best_split
from optim.combined.solution import CombinedSolution
from optim.linear import solve_ridge
from optim.options import SolverOptions
from optim.phase_step import aligned_rows, arriving, reduced_error
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.descent import best_of, descend, flat_copies, rescaled
from optim.starts import starting_points


@final
@dataclass(frozen=True)
class AlternatingMMSE(AbstractTransceiverSolver):
    r"""Best transmit scalars for the beamformer, best beamformer for the transmit scalars, in turn.

    .. math:: b_k = \min\{\sqrt{P_k}, \omega_k / |g_k|\} e^{-j \arg g_k}, \qquad
              m = (A A^H + \sigma^2 I)^{-1} A \omega

    Monotone, with stationary limit points; but a device that inverts its channel holds the length of m
    back, so above 20 dB the fall per step becomes tiny long before the bottom: expect `ITERATION_LIMIT`.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        form = normal_form.apply(problem)
        starts = starting_points(form.rows, form.targets, self.options.starts, self.options.generator())
        rows, targets = flat_copies(form.rows, form.targets, self.options.starts)
        points, histories = descend(
            rows, targets, starts.reshape(len(rows), -1), alternating_step, self.options
        )
        best, endings = best_of(points, histories, len(form.rows), self.options)
        return assemble_beams(problem, form, best, rescaled(endings, form))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        form = normalise(problem)
        rng = self.options.generator()
        starts = [starting_points(s.rows, s.targets, self.options.starts, rng) for s in form.stacks]
        solutions = [_alternate(form, beams, self.options) for beams in zip(*starts, strict=True)]
        return min(solutions, key=lambda solution: solution.objective)


def alternating_step(
    rows: Complex[np.ndarray, "B K n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    moves: Complex[np.ndarray, "B n"],
) -> tuple[Complex[np.ndarray, "B n"], Float[np.ndarray, "B"]]:
    """Invert up to full power behind the old beamformer, then combine what arrives; `moves` is not used."""
    size = np.abs(arriving(rows, points))
    heard = size > 0
    amplitude = np.where(heard, np.minimum(targets / np.where(heard, size, 1.0), 1.0), 1.0)
    stepped = mmse_point(aligned_rows(rows, points) * amplitude[..., None], targets)
    return stepped, reduced_error(rows, targets, stepped)


def mmse_point(
    arriving_rows: Complex[np.ndarray, "*batch K n"], targets: Float[np.ndarray, "*batch K"]
) -> Complex[np.ndarray, "*batch n"]:
    """``argmin_x |x|^2 + sum_k |w_k - r_k x|^2``."""
    adjoint = np.swapaxes(arriving_rows.conj(), -1, -2)
    system = np.eye(arriving_rows.shape[-1]) + adjoint @ arriving_rows
    return solve_ridge(system, adjoint @ targets[..., None])[..., 0]


def _alternate(form: CombinedForm, beams: Beams, options: SolverOptions) -> CombinedSolution:
    strengths = form.strengths(beams)
    power = best_split(form.budgets, strengths)
    error = float(form.error(beams, strengths, power))
    history, status = [error * form.scale], Status.ITERATION_LIMIT
    for _ in range(options.max_iterations):
        next_beams = _combine(form, beams, power)
        strengths = form.strengths(next_beams)
        next_power = best_split(form.budgets, strengths)
        next_error = float(form.error(next_beams, strengths, next_power))
        fall = error - next_error
        if fall > 0:
            beams, power, error = next_beams, next_power, next_error
            history.append(error * form.scale)
        if fall <= options.tolerance * error:
            status = Status.CONVERGED
            break
    return certified(form, beams, power, status, tuple(history))


def _combine(form: CombinedForm, beams: Beams, power: Float[np.ndarray, "J K"]) -> Beams:
    """The MMSE beamformer of every receiver for the powers its devices spend."""
    parts = zip(form.stacks, power, beams, strict=True)
    return tuple(
        mmse_point(aligned_rows(stack.powered_rows(spent), points), stack.targets)
        for stack, spent, points in parts
    )
