"""Solve, evaluate, bound: three verbs, each for both kinds of problem."""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from jaxtyping import Float

from optim import certificate, checks, normal_form
from optim.combined import bound, form
from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
from optim.combined.form import CombinedForm
from optim.combined.mse import AnyProblem
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.design import CombinedDesign, TransceiverDesign
from optim.evaluation import CombinedEvaluation, Evaluation, evaluate_combined, evaluate_receiver
from optim.options import options_of
from optim.problem import AirCompProblem
from optim.solution import Solution
from optim.solvers.base import AbstractTransceiverSolver, check_combined_scope, check_receiver_scope
from optim.solvers.catalogue import build_solver


class Effort(TypedDict, total=False):
    """The options of :func:`solve`, as :class:`~optim.SolverOptions` describes them."""

    starts: int
    max_iterations: int
    tolerance: float
    seed: int
    bound_tolerance: float
    gap: float
    node_limit: int
    time_limit_s: float
    conic_solver: str


@overload
def solve(
    problem: AirCompProblem, method: str | AbstractTransceiverSolver = ..., **effort: Unpack[Effort]
) -> Solution: ...


@overload
def solve(
    problem: AnyProblem, method: str | AbstractTransceiverSolver = ..., **effort: Unpack[Effort]
) -> CombinedSolution: ...


def solve(
    problem: AirCompProblem | AnyProblem,
    method: str | AbstractTransceiverSolver = "auto",
    **effort: Unpack[Effort],
) -> Solution | CombinedSolution:
    """A design with its error and a certified lower bound.

    Args:
        method: a name out of `optim.METHODS`, or a solver with settings of its own.
        effort: `starts`, `seed`, ...: see :class:`~optim.SolverOptions`.

    Raises:
        ValueError: for an unknown method, one that cannot take this problem, or an impossible option.
    """
    if isinstance(method, AbstractTransceiverSolver):
        if effort:
            raise ValueError(f"{', '.join(effort)}: give these to the {type(method).__name__} itself")
        solver = method
    else:
        solver = build_solver(method, options_of(effort))
    if problem.num_devices == 0:
        raise ValueError("channel has no rows: there is nothing to solve without devices")
    if isinstance(problem, AirCompProblem):
        check_receiver_scope(solver, problem)
        return solver.solve_receiver(problem)
    check_combined_scope(solver, problem)
    return solver.solve_combined(problem)


@overload
def evaluate(problem: AirCompProblem, design: TransceiverDesign) -> Evaluation: ...


@overload
def evaluate(problem: AnyProblem, design: CombinedDesign | MultiBlockDesign) -> CombinedEvaluation: ...


def evaluate(
    problem: AirCompProblem | AnyProblem, design: TransceiverDesign | CombinedDesign | MultiBlockDesign
) -> Evaluation | CombinedEvaluation:
    """The errors of a design, also of one that was made for another noise, channel or budget."""
    for kinds in ((CombinedProblem, CombinedDesign), (MultiBlockProblem, MultiBlockDesign)):
        if isinstance(problem, kinds[0]) and isinstance(design, kinds[1]):
            return evaluate_combined(problem, design)
    if isinstance(problem, AirCompProblem) and isinstance(design, TransceiverDesign):
        return evaluate_receiver(problem, design)
    raise TypeError(f"a {type(design).__name__} is no design for a {type(problem).__name__}")


def lower_bound(
    problem: AirCompProblem | AnyProblem, multipliers: Any = None
) -> Float[np.ndarray, "*batch"] | float:
    r"""A number that no design can beat, from any multipliers; only their proportions matter.

    Args:
        multipliers: for one receiver :math:`\lambda_k \ge 0` of
            :math:`\sum_k \lambda_k P_k h_k h_k^H \preceq \sigma^2 I`; for a combined problem one such array
            per stream, of :math:`\sum_k \lambda_k h_k h_k^H \preceq W_i \sigma_i^2 I`. They are scaled to
            the edge of this set. Without any, the better of uniform and matched multipliers, ``1 / (P_k
            |h_k|^2)``.
    """
    if isinstance(problem, AirCompProblem):
        return _receiver_bound(problem, multipliers)
    return _combined_bound(problem, multipliers)


def _receiver_bound(problem: AirCompProblem, multipliers: Any) -> Float[np.ndarray, "*batch"] | float:
    normal = normal_form.apply(problem)
    if multipliers is None:
        candidates = certificate.closed_form_multipliers(normal)
    else:
        given = checks.real_array("multipliers", multipliers)
        checks.non_negative("multipliers", given, "a bound needs multipliers of 0 or more")
        shape = problem.target_gains.shape
        candidates = normal.arranged(checks.broadcast("multipliers", given, shape).reshape(1, -1, shape[-1]))
    value = certificate.dual_value(normal, candidates).max(axis=0).reshape(problem.batch_shape)
    return value if problem.batch_shape else float(value)


def _combined_bound(problem: AnyProblem, multipliers: Sequence[Any] | None) -> float:
    normal = form.normalise(problem)
    if multipliers is None:
        candidates = bound.closed_form_multipliers(normal)
    else:
        candidates = _per_device_multipliers(normal, multipliers)[None] / normal.reference_divisor_w
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
