"""Robust design: the least expected error when the channel is an estimate with a known error covariance."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim import mse, normal_form, robust_form
from optim.certificate import dual_value, stationary_multipliers
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.design import TransceiverDesign
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.robust_bound import known_channel
from optim.robust_envelope import level_bound
from optim.robust_form import RobustForm, reduced_error, scaled_along
from optim.robust_step import best_trial, model_minimiser
from optim.solution import History, Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, packed
from optim.solvers.descent import best_of
from optim.solvers.sequential_quadratic import SequentialQuadratic, bound_and_starts
from optim.tight_bound import tempering

Endings = list[tuple[Status, History]]
# Entries of the rows of all starts in a chunk.
CHUNK_ENTRIES = 1_000_000


@final
@dataclass(frozen=True)
class RobustDesign(AbstractTransceiverSolver):
    r"""Descend from the nominal design, from one that takes uncertainty for noise, and from samples.

    .. math:: \min_{m, b}\ \kappa \sum_k |m^H \hat h_k b_k - \omega_k|^2
              + \sum_k |b_k|^2 m^H \Sigma_k m + \sigma^2 \|m\|^2

    Monotone from each start, so never worse in expected error than the design that believes the estimate;
    with one antenna a formula, and the global optimum. `starts` counts the descents: the first is the
    nominal design's. A known channel has nothing to be robust against and gets the default design.
    """

    takes_device_antennas = True
    takes_task_reuse = True
    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        if problem.error_covariance is None:
            return SequentialQuadratic(self.options).solve_receiver(problem)
        form = robust_form.apply(problem)
        certificate, samples = _certificate(problem, form, self.options)
        if form.rows.shape[-1] == 1:
            points = scaled_along(form, np.ones_like(form.rows[:, 0, 0]))
            endings: Endings = [(Status.CLOSED_FORM, (float(e),)) for e in reduced_error(form, points)]
        else:
            starts = _guesses(problem, form, self.options) + samples
            points, endings = _best_descent(form, starts[: self.options.starts], self.options)
        bound = _bound(form, points, certificate, self.options)
        beamformer = form.invert(points)
        scalars = mse.best_transmit_scalars(problem.flattened(), beamformer)
        design = TransceiverDesign(scalars, beamformer, problem.device_antennas)
        return packed(problem, design, _in_units(form, endings), bound, form.silent)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        """The channels of a combined problem are known: this is its default design."""
        return SequentialQuadratic(self.options).solve_combined(problem)


def nominal_design(problem: AirCompProblem, options: SolverOptions) -> TransceiverDesign:
    """What is best if the estimate were the channel."""
    return SequentialQuadratic(options).solve_receiver(problem.replaced(error_covariance=None)).design


def _guesses(
    problem: AirCompProblem, form: RobustForm, options: SolverOptions
) -> list[Complex[np.ndarray, "B n"]]:
    """The nominal design, and one that takes uncertainty for noise."""
    flat = problem.flattened()
    guesses = (flat, _with_uncertainty_as_noise(flat))[: options.starts]
    return [form.project(nominal_design(guess, options).receive_beamformer) for guess in guesses]


def _with_uncertainty_as_noise(problem: AirCompProblem) -> AirCompProblem:
    """``sigma^2 + sum_k P_k tr Sigma_k / N``: the noise if everybody sent at full power, on average."""
    covariance = problem.error_covariance
    assert covariance is not None
    size = problem.num_antennas
    total = covariance.total(problem.power_budget_w, size)
    added = np.trace(total, axis1=-2, axis2=-1).real / size
    return problem.replaced(noise_power_w=problem.noise_power_w + added)


def _best_descent(
    form: RobustForm, starts: list[Complex[np.ndarray, "B n"]], options: SolverOptions
) -> tuple[Complex[np.ndarray, "B n"], Endings]:
    """The best of the descents from all starts, as many problems side by side as fit a chunk."""
    points, endings = np.empty_like(starts[0]), []
    chunk = max(1, CHUNK_ENTRIES // (len(starts) * int(np.prod(form.rows.shape[1:]))))
    for begin in range(0, len(points), chunk):
        part = np.arange(begin, min(begin + chunk, len(points)))
        many = form.taken(np.tile(part, len(starts)))
        begun = scaled_along(many, np.concatenate([start[part] for start in starts]))
        reached, histories = _descend(many, begun, options)
        points[part], ended = best_of(reached, histories, len(part), options)
        endings += ended
    return points, endings


def _descend(
    form: RobustForm, points: Complex[np.ndarray, "B n"], options: SolverOptions
) -> tuple[Complex[np.ndarray, "B n"], list[History]]:
    """Steps until each error falls by less than the tolerance; finished problems drop out."""
    points, moves = points.copy(), np.zeros_like(points)
    errors = reduced_error(form, points)
    histories = [[float(error)] for error in errors]
    running = np.arange(len(points))
    for _ in range(options.max_iterations):
        here = form.taken(running)
        stepped = best_trial(here, points[running], model_minimiser(here, points[running]), moves[running])
        new_errors = reduced_error(here, stepped)
        fall = errors[running] - new_errors
        moved = running[fall > 0]
        moves[moved] = stepped[fall > 0] - points[moved]
        points[moved], errors[moved] = stepped[fall > 0], new_errors[fall > 0]
        for index in moved:
            histories[index].append(float(errors[index]))
        running = running[fall > options.tolerance * errors[running]]
        if not running.size:
            break
    return points, [tuple(history) for history in histories]


Certificate = tuple[normal_form.NormalForm, Float[np.ndarray, "C B K"] | None, Float[np.ndarray, "B"]]


def _certificate(
    problem: AirCompProblem, form: RobustForm, options: SolverOptions
) -> tuple[Certificate, list[Complex[np.ndarray, "B n"]]]:
    """The equivalent known channel, its multipliers and floor; and starts drawn from its relaxation."""
    equivalent, floor = known_channel(problem.flattened())
    normal = normal_form.apply(equivalent)
    multipliers, starts = bound_and_starts(
        normal.rows * tempering(normal)[:, None, None], normal.targets, options
    )
    return (normal, multipliers, floor), [form.project(normal.invert(start)) for start in starts]


def _bound(
    form: RobustForm, points: Complex[np.ndarray, "B n"], certificate: Certificate, options: SolverOptions
) -> Float[np.ndarray, "B"]:
    """The better of both bounds: least uncertainty (exact with one antenna), and level by level."""
    normal, multipliers, floor = certificate
    implied = stationary_multipliers(normal, normal.project(form.invert(points)))[None]
    candidates = implied if multipliers is None else np.concatenate([implied, multipliers])
    bound = dual_value(normal, candidates).max(axis=0) + floor
    if form.rows.shape[-1] > 1 and (form.covariance.scale > 0).any():
        bound = np.maximum(bound, level_bound(form, points, options.bound_tolerance) * form.scale)
    return bound


def _in_units(form: RobustForm, endings: Endings) -> Endings:
    """Histories in the problem's own units."""
    return [
        (status, tuple(error * scale for error in history))
        for (status, history), scale in zip(endings, form.scale.tolist(), strict=True)
    ]
