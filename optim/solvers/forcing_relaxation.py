r"""The relaxation of uniform forcing, its design and its certified value.

.. math:: \min_{X \succeq 0} \mathrm{tr} X \quad\text{s.t.}\quad a_k X a_k^H \ge w_k^2
"""

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float

from optim import normal_form
from optim.certificate import ROUNDING_MARGIN, spectral_radius
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solvers import lifted
from optim.solvers.forcing import Demand, demand, require_heard
from optim.solvers.forcing_programs import lifted_forcing
from optim.starts import drawn_starts

SAMPLES_PER_START = 8


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The relaxation of one problem: its design, its multipliers in the form's units, the verdict."""

    demand: Demand
    point: Complex[np.ndarray, "n"]
    multipliers: Float[np.ndarray, "K"]
    verdict: str


def forcing_bound(
    problem: AirCompProblem, options: SolverOptions | None = None
) -> Float[np.ndarray, "*batch"] | float:
    r"""The error that no uniform-forcing design can beat: the relaxation's value, certified.

    .. math:: \sum_k \lambda_k w_k^2 \quad\text{for}\quad \sum_k \lambda_k a_k^H a_k \preceq I

    Not a bound on the mean squared error, which biased designs lower further.
    """
    form = forcible_form(problem)
    parts = relaxed_designs(form, options or SolverOptions())
    multipliers = np.stack([part.multipliers for part in parts])
    error = (multipliers * form.targets**2).sum(axis=-1) / spectral_radius(form.rows, multipliers)
    bound = (form.objective(error) * (1 - ROUNDING_MARGIN)).reshape(problem.batch_shape)
    return bound if problem.batch_shape else float(bound)


def forcible_form(problem: AirCompProblem) -> NormalForm:
    """The normal form, if the problem can be forced at all."""
    if problem.error_covariance is not None:
        raise ValueError(
            "error_covariance is given, but uniform forcing needs a known channel: use 'robust', or leave "
            "error_covariance out to force the estimate"
        )
    require_heard(problem)
    return normal_form.apply(problem)


def relaxed_designs(form: NormalForm, options: SolverOptions) -> list[Relaxed]:
    """The relaxation of every problem of a form."""
    return [_relax(form, index, options) for index in range(len(form.rows))]


def _relax(form: NormalForm, index: int, options: SolverOptions) -> Relaxed:
    multipliers = np.zeros(form.targets.shape[1])
    wanted = demand(form, index, options)
    if not wanted.devices.size:
        return Relaxed(wanted, wanted.start, multipliers, cp.OPTIMAL)
    trace = lifted.trace_coordinates(wanted.directions.shape[1])
    covariance, duals, verdict = lifted_forcing(wanted).solve(wanted, trace, options.conic_solver)
    points = wanted.start[None]
    if covariance is not None:
        # A member of a batch draws what it would draw alone.
        count = 1 + SAMPLES_PER_START * options.starts
        draws = drawn_starts(covariance[None], count, options.generator())[:, 0]
        points = np.concatenate([points, draws])
        multipliers[wanted.devices] = duals / form.targets[index, wanted.devices] ** 2
    return Relaxed(wanted, wanted.scaled(points)[0], multipliers, verdict)
