"""Solve and evaluate, each for both kinds of problem."""

from typing import TypedDict, Unpack, overload

from optim import checks
from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
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
    _require_problem(problem)
    name = method if isinstance(method, str) else type(method).__name__
    if isinstance(method, AbstractTransceiverSolver):
        if effort:
            raise ValueError(f"{', '.join(effort)}: give these to the {type(method).__name__} itself")
        solver = method
    else:
        solver = build_solver(method, options_of(effort))
    checks.something(problem, "solve")
    if isinstance(problem, AirCompProblem):
        check_receiver_scope(solver, problem, name)
        return solver.solve_receiver(problem)
    check_combined_scope(solver, problem, name)
    return solver.solve_combined(problem)


def _require_problem(problem: object) -> None:
    if not isinstance(problem, AirCompProblem | CombinedProblem | MultiBlockProblem):
        raise ValueError(
            f"problem is a {type(problem).__name__}: give an AirCompProblem, a CombinedProblem or a "
            "MultiBlockProblem"
        )


@overload
def evaluate(problem: AirCompProblem, design: TransceiverDesign) -> Evaluation: ...


@overload
def evaluate(problem: AnyProblem, design: CombinedDesign | MultiBlockDesign) -> CombinedEvaluation: ...


def evaluate(
    problem: AirCompProblem | AnyProblem, design: TransceiverDesign | CombinedDesign | MultiBlockDesign
) -> Evaluation | CombinedEvaluation:
    """The errors of a design, also of one that was made for another noise, channel or budget.

    Raises:
        ValueError: for a design of other devices or antennas, or one that is not finite.
    """
    for kinds in ((CombinedProblem, CombinedDesign), (MultiBlockProblem, MultiBlockDesign)):
        if isinstance(problem, kinds[0]) and isinstance(design, kinds[1]):
            return evaluate_combined(problem, design)
    if isinstance(problem, AirCompProblem) and isinstance(design, TransceiverDesign):
        return evaluate_receiver(problem, design)
    raise TypeError(f"a {type(design).__name__} is no design for a {type(problem).__name__}")
