"""What no design can beat, for both kinds of problem."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from optim import certificate, checks, normal_form
from optim.combined import bound, form
from optim.combined.form import CombinedForm
from optim.combined.interior_point import relax
from optim.combined.mse import AnyProblem
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solvers.robust import RobustDesign
from optim.tight_bound import relaxed, tempering


def lower_bound(
    problem: AirCompProblem | AnyProblem, multipliers: Any = None, *, tolerance: float | None = None
) -> Float[np.ndarray, "*batch"] | float:
    r"""A number that no design can beat: the best bound of the convex relaxation, or that of any multipliers.

    Args:
        multipliers: for one receiver :math:`\lambda_k \ge 0` of
            :math:`\sum_k \lambda_k P_k h_k h_k^H \preceq \sigma^2 I`; for a combined problem one such array
            per stream, of :math:`\sum_k \lambda_k h_k h_k^H \preceq W_i \sigma_i^2 I`. They are scaled to
            the edge of this set; only their proportions matter.
        tolerance: relative distance to the relaxation's value at which to stop; 1e-3 unless given. Infinite
            takes the better of two closed forms, uniform and matched multipliers ``1 / (P_k |h_k|^2)``, at
            once.

    Raises:
        ValueError: for both at once, or for an impossible one.
    """
    if multipliers is not None and tolerance is not None:
        raise ValueError(
            "multipliers and tolerance are both given: drop one, as given multipliers have one bound"
        )
    if tolerance is not None:
        checks.above_zero("tolerance", tolerance)
    options = SolverOptions() if tolerance is None else SolverOptions(bound_tolerance=tolerance)
    checks.something(problem, "bound")
    if isinstance(problem, AirCompProblem):
        value = _receiver_bound(problem, multipliers, options.bound_tolerance)
        return value.reshape(problem.batch_shape) if problem.batch_shape else float(value[0])
    return _combined_bound(problem, multipliers, options.bound_tolerance)


def _receiver_bound(problem: AirCompProblem, multipliers: Any, tolerance: float) -> Float[np.ndarray, "B"]:
    if problem.error_covariance is not None and multipliers is None and np.isfinite(tolerance):
        # The bound of an uncertain channel is the tighter the better the design it is taken at.
        options = SolverOptions(starts=1, bound_tolerance=tolerance)
        return np.ravel(RobustDesign(options).solve_receiver(problem).lower_bound)
    normal = normal_form.apply(problem)
    if multipliers is not None:
        given = checks.real_array("multipliers", multipliers)
        checks.non_negative("multipliers", given, "a bound needs multipliers of 0 or more")
        shape = problem.target_gains.shape
        candidates = normal.arranged(checks.broadcast("multipliers", given, shape).reshape(1, -1, shape[-1]))
    elif np.isfinite(tolerance):
        rows = normal.rows * tempering(normal)[:, None, None]
        tight = relaxed(rows, normal.targets, tolerance)[0][None]
        candidates = np.concatenate([tight, certificate.closed_form_multipliers(normal)])
    else:
        candidates = certificate.closed_form_multipliers(normal)
    return certificate.dual_value(normal, candidates).max(axis=0)


def _combined_bound(problem: AnyProblem, multipliers: Sequence[Any] | None, tolerance: float) -> float:
    normal = form.normalise(problem)
    if multipliers is not None:
        candidates = _per_device_multipliers(normal, multipliers)[None] / normal.reference_divisor_w
    elif np.isfinite(tolerance):
        tight = relax(normal, tolerance).multipliers[None]
        candidates = np.concatenate([tight, bound.closed_form_multipliers(normal)])
    else:
        candidates = bound.closed_form_multipliers(normal)
    return float(bound.combined_dual_value(normal, candidates).max())


def _per_device_multipliers(normal: CombinedForm, multipliers: Sequence[Any]) -> Float[np.ndarray, "J K"]:
    """Stream by stream to device by device."""
    places = normal.places
    if len(multipliers) != len(places):
        raise ValueError(
            f"multipliers has {len(multipliers)} entries: give {len(places)}, one array per stream, block by "
            "block, the base station's first"
        )
    table = np.zeros(normal.budgets.targets.shape)
    for stream, (block, index) in enumerate(places):
        field, devices = f"multipliers[{stream}]", normal.problem.blocks[block].devices_of(index)
        given = checks.real_array(field, multipliers[stream])
        checks.non_negative(field, given, "a bound needs multipliers of 0 or more")
        table[2 * block + min(index, 1), devices] = checks.broadcast(field, given, devices.shape)
    return table
