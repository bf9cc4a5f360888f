"""The global optimum of one receiver, proved to an asked gap."""

from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim import normal_form
from optim.certificate import ROUNDING_MARGIN
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.proof.search import Claim, Proof, prove
from optim.solution import History, Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.sequential_quadratic import Designed, designed

# The relaxation is solved to this part of the asked gap.
BOUND_SHARE = 0.1


@final
@dataclass(frozen=True)
class BranchAndBound(AbstractTransceiverSolver):
    """A design whose error is within `gap` of the global optimum, and the proof of it in the lower bound.

    Starts from the design and the bound of 'sqp'. Where they leave a larger gap, the phases of what arrives
    are divided into sectors until the bound of every box is high enough (:mod:`optim.proof`). A proof that
    stops at `node_limit` or `time_limit_s`, both per problem, returns the best design and bound so far.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        _require_known_channel(problem)
        form = normal_form.apply(problem)
        tolerance = min(self.options.bound_tolerance, BOUND_SHARE * self.options.gap)
        design = designed(form, replace(self.options, bound_tolerance=tolerance))
        solution = assemble_beams(problem, form, *design)
        unproved = (np.ravel(solution.gap) > self.options.gap) & ~form.silent
        proofs = prove(_claim(form, design, unproved), self.options)
        points, endings = _outcome(form, design, np.flatnonzero(unproved), proofs)
        solution = assemble_beams(problem, form, points, endings, design.multipliers)
        return replace(solution, lower_bound=_raised(form, solution, unproved, proofs))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        raise ValueError(
            "method 'branch-and-bound' solves one receiver with fixed powers, but a CombinedProblem couples "
            f"{len(problem.stream_weights)} receivers by their devices' energy: use 'auto', whose lower "
            "bound is certified too"
        )


def _require_known_channel(problem: AirCompProblem) -> None:
    if problem.error_covariance is not None:
        raise ValueError(
            "error_covariance is given, but method 'branch-and-bound' needs a known channel: use 'auto', or "
            "leave error_covariance out to prove the nominal optimum"
        )


def _claim(form: NormalForm, design: Designed, unproved: Bool[np.ndarray, "B"]) -> Claim:
    """The problems that still need a proof."""
    assert design.multipliers is not None  # a finite tolerance asks for them
    return Claim(
        rows=form.rows[unproved],
        targets=form.targets[unproved],
        lost=form.lost[unproved] / form.scale[unproved],
        multipliers=design.multipliers[0, unproved],
        points=design.points[unproved],
    )


def _outcome(
    form: NormalForm, design: Designed, places: Int[np.ndarray, "U"], proofs: list[Proof]
) -> tuple[Complex[np.ndarray, "B n"], list[tuple[Status, History]]]:
    """Points and endings of all problems, the searched ones replaced by what the search found."""
    points = design.points.copy()
    endings = [(Status.PROVED_OPTIMAL, history) for _, history in design.endings]
    for place, proof in zip(places.tolist(), proofs, strict=True):
        points[place] = proof.point
        found = tuple(error * form.scale[place] + form.lost[place] for error in proof.errors[1:])
        assert proof.status is not None  # every search ends
        endings[place] = (proof.status, endings[place][1] + found)
    return points, endings


def _raised(
    form: NormalForm, solution: Solution, unproved: Bool[np.ndarray, "B"], proofs: list[Proof]
) -> Float[np.ndarray, "*batch"] | float:
    """The relaxation's bound, or the search's where that is higher."""
    bound = np.zeros(len(unproved))
    bound[unproved] = [proof.bound for proof in proofs]
    searched = np.where(unproved, form.objective(bound) * (1 - ROUNDING_MARGIN), 0.0)
    raised = np.maximum(searched.reshape(np.shape(solution.lower_bound)), solution.lower_bound)
    return raised if raised.ndim else float(raised)
