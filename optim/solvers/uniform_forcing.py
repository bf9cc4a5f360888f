r"""Uniform forcing by three convex methods: relaxation with randomisation, tangents, difference of convex.

All three find a design whose gains are exactly the targets, so that only noise remains: unbiased, but never
better in mean squared error than the best design of all, whose lower bound is what they report [Chen18],
[Yang20].
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim.certificate import closed_form_multipliers
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.solvers import conic, lifted
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.descent import rescaled
from optim.solvers.forcing_programs import lifted_forcing, tangent_forcing
from optim.solvers.forcing_relaxation import Relaxed, forcible_form, relaxed_designs

# Below this relative fall a convex solver's own error decides.
SOLVER_ACCURACY = 1e-6
# Part of the trace outside the leading eigenvalue below which a matrix counts as rank one.
RANK_ONE = 1e-5
MAX_PENALTY = 1e6


Ending = tuple[Complex[np.ndarray, "n"], Status, History]
Improve = Callable[[Relaxed, SolverOptions], Ending]


@final
@dataclass(frozen=True)
class UniformForcingRelaxation(AbstractTransceiverSolver):
    r"""Lift, relax, and scale the best of leading eigenvector and Gaussian samples until all are heard.

    .. math:: \min_{X \succeq 0} \mathrm{tr} X \quad\text{s.t.}\quad a_k X a_k^H \ge w_k^2

    Exact for at most three devices, where a solution of rank one exists.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        return _forced(problem, _as_drawn, self.options)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        raise _no_combined("uniform-forcing-sdr")


@final
@dataclass(frozen=True)
class UniformForcingTangents(AbstractTransceiverSolver):
    """From the relaxation's design, successive convex approximation: one small program per step, monotone."""

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        return _forced(problem, _by_tangents, self.options)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        raise _no_combined("uniform-forcing-sca")


@final
@dataclass(frozen=True)
class UniformForcingDifference(AbstractTransceiverSolver):
    r"""From the relaxation's design, a difference of convex functions that vanishes at rank one.

    .. math:: \min_{X \succeq 0} \mathrm{tr} X + \mu (\mathrm{tr} X - \lambda_{\max}(X))

    with the largest eigenvalue linearised in every step, and the penalty raised until X has rank one.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        return _forced(problem, _by_difference, self.options)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        raise _no_combined("uniform-forcing-dc")


def _no_combined(method: str) -> ValueError:
    return ValueError(
        f"method {method!r} forces one receiver with fixed powers, but a CombinedProblem couples several: "
        "use 'auto' with a large misalignment_weight, or 'inversion'"
    )


def _forced(problem: AirCompProblem, improve: Improve, options: SolverOptions) -> Solution:
    form = forcible_form(problem)
    relaxed = relaxed_designs(form, options)
    endings = [improve(part, options) for part in relaxed]
    points = np.stack([point for point, _, _ in endings])
    told = rescaled([(status, history) for _, status, history in endings], form)
    own = np.stack([part.multipliers for part in relaxed])[None]
    return assemble_beams(problem, form, points, told, np.concatenate([own, closed_form_multipliers(form)]))


def _as_drawn(relaxed: Relaxed, options: SolverOptions) -> Ending:
    return relaxed.point, _status(relaxed.verdict, Status.RELAXED), (_noise(relaxed.point),)


def _by_tangents(relaxed: Relaxed, options: SolverOptions) -> Ending:
    point, wanted = relaxed.point, relaxed.demand
    history, verdict, status = [_noise(point)], relaxed.verdict, Status.ITERATION_LIMIT
    for _ in range(options.max_iterations if wanted.devices.size else 0):
        stepped, verdict = tangent_forcing(wanted).solve(wanted, point, options.conic_solver)
        best = point if stepped is None else wanted.scaled(np.stack([point, stepped]))[0]
        fall = history[-1] - _noise(best)
        if fall > 0:
            point = best
            history.append(_noise(point))
        if fall <= max(options.tolerance, SOLVER_ACCURACY) * history[-1]:
            status = Status.CONVERGED
            break
    return point, _status(verdict, status), tuple(history)


def _by_difference(relaxed: Relaxed, options: SolverOptions) -> Ending:
    point, wanted = relaxed.point, relaxed.demand
    history, verdict, status = [_noise(point)], relaxed.verdict, Status.ITERATION_LIMIT
    penalty, objective, leader = 1.0, np.inf, point
    for _ in range(options.max_iterations if wanted.devices.size else 0):
        cost = _linearised(leader, penalty)
        covariance, _, verdict = lifted_forcing(wanted).solve(wanted, cost, options.conic_solver)
        if covariance is None:
            break
        spread, modes = np.linalg.eigh(covariance)
        leader, rest = modes[:, -1], float(spread[:-1].sum())
        best = wanted.scaled(np.stack([point, leader]))[0]
        if _noise(best) < history[-1]:
            point = best
            history.append(_noise(point))
        reached = float(spread.sum()) + penalty * rest
        settled = objective - reached <= max(options.tolerance, SOLVER_ACCURACY) * reached
        objective = reached
        if settled and (rest <= RANK_ONE * spread[-1] or penalty >= MAX_PENALTY):
            status = Status.CONVERGED
            break
        if settled:
            penalty, objective = 10 * penalty, np.inf
    return point, _status(verdict, status), tuple(history)


def _linearised(leader: Complex[np.ndarray, "n"], penalty: float) -> Float[np.ndarray, "d"]:
    """Coordinates of ``(1 + mu) I - mu v v^H``, the convex part and its tangent, over ``1 + mu``."""
    unit = leader / np.linalg.norm(leader)
    share = penalty / (1 + penalty)
    aligned = lifted.gain_coordinates(unit.conj()[None])[0]
    return lifted.trace_coordinates(len(unit)) - share * aligned


def _noise(point: Complex[np.ndarray, "n"]) -> float:
    return float((np.abs(point) ** 2).sum())


def _status(verdict: str, status: Status) -> Status:
    """What the convex solver said, if it was not plainly optimal; else how the method ended."""
    return conic.STATUSES.get(verdict, status)
