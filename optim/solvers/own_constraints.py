"""A user's own constraints on the devices' powers, in the joint MMSE relaxation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Float

from optim.infeasible import InfeasibleError
from optim.normal_form import NormalForm
from optim.problem import AirCompProblem
from optim.solvers import conic
from optim.solvers.relaxation import Lifted, assembled

# Caps are this much below what the solver says, and constraints hold to this part of their terms.
SOLVER_ACCURACY = 1e-6
# What counts as missing a constraint, in the constraint's own units relative to its terms.
MISSED = 1e-5


@dataclass(frozen=True, eq=False)
class PowerVariables:
    """What constraints may speak of: the power that each device may spend, in watts."""

    power_w: Any


Constraints = Callable[[PowerVariables], Sequence[Any]]


@dataclass(frozen=True, eq=False)
class OwnConstraints:
    """One problem's constraints, on relative powers within the devices' budgets."""

    power: Any
    within_budget: Any
    given: tuple[Any, ...]
    place: str

    def best_power(self, form: NormalForm, upper_bound: float, solver: str) -> Lifted:
        """Relative powers of the constrained relaxation; the nearest allowed ones where its solver fails."""
        stream = conic.receiver_stream(form.rows[0], form.targets[0], upper_bound)
        streams = [] if stream is None else [stream]
        shapes = [(0, tuple(form.order[0, s.devices].tolist()), s.rows.shape[1]) for s in streams]
        program = assembled(shapes, self.power, [self.within_budget, *self.given])
        relaxed = program.solve(streams, np.zeros(self.power.shape), solver)
        return relaxed if relaxed.verdict != conic.FAILED else self._nearest_allowed()

    def require_kept(self, relative_power: Float[np.ndarray, "K"]) -> None:
        """Raise `InfeasibleError` if powers below the allowed ones break a constraint."""
        self.power.value = relative_power[None]
        for number, constraint in enumerate(self.given):
            if _violation(constraint) > MISSED * _magnitude(constraint):
                raise InfeasibleError(
                    f"constraints[{number}]{self.place} holds for the powers that devices may spend, but the "
                    "best design spends less on some and breaks it: give constraints that still hold when a "
                    "device sends with less power, upper limits for example"
                )

    def _nearest_allowed(self) -> Lifted:
        """Powers that miss the constraints least; `InfeasibleError` if they miss any."""
        slacks: list[Any] = [cp.Variable(nonneg=True) for _ in self.given]
        relaxed = [_relaxed(*pair) for pair in zip(self.given, slacks, strict=True)]
        problem = cp.Problem(cp.Minimize(sum(slacks)), [self.within_budget, *relaxed])
        if conic.solve_conic(problem) == conic.FAILED:
            raise InfeasibleError(
                f"constraints{self.place} cannot be met within power_budget_w, nor relaxed one by one: leave "
                "out those that contradict each other"
            )
        sizes = [float(slack.value) for slack in slacks]
        missed = {
            number: size
            for number, (size, constraint) in enumerate(zip(sizes, self.given, strict=True))
            if size > MISSED * _magnitude(constraint)
        }
        if missed:
            raise self._infeasible(missed)
        no_multipliers = np.zeros(self.power.shape)
        return Lifted({}, np.maximum(self.power.value, 0.0), no_multipliers, conic.FAILED)

    def _infeasible(self, missed: dict[int, float]) -> InfeasibleError:
        limited = np.flatnonzero(
            (self.power.value[0] > 1 - MISSED) & (self.within_budget.dual_value[0] > MISSED)
        )
        budget = f"; or raise power_budget_w of device {', '.join(map(str, limited))}" if limited.size else ""
        ways = ", ".join(f"constraints[{number}] by {slack:.4g}" for number, slack in missed.items())
        return InfeasibleError(
            f"constraints[{min(missed)}]{self.place} cannot be met: a design is possible "
            f"after relaxing {ways} (in the units they are written in){budget}"
        )


def own_constraints(problem: AirCompProblem, constraints: Constraints, place: str) -> OwnConstraints:
    """The constraints that a function gives for one problem, checked.

    Raises:
        ValueError: for what is no constraint, or is not convex by cvxpy's rules.
    """
    power = cp.Variable((1, problem.num_devices), nonneg=True)
    given = tuple(constraints(PowerVariables(cp.multiply(problem.power_budget_w, power[0]))))
    for number, constraint in enumerate(given):
        if not isinstance(constraint, cp.Constraint):
            raise ValueError(
                f"constraints[{number}] is {constraint!r}: give cvxpy constraints on power_w, for example "
                "cp.sum(v.power_w) <= 2.0"
            )
        if not constraint.is_dcp():
            raise ValueError(
                f"constraints[{number}] = {constraint} is not convex by cvxpy's rules: write it as convex <= "
                "concave, or affine == affine"
            )
    return OwnConstraints(power, power <= 1, given, place)


def _relaxed(constraint: Any, slack: Any) -> Any:
    """The constraint, allowed to miss by `slack`; cones stay as they are."""
    if isinstance(constraint, cp.constraints.Inequality):
        return constraint.expr <= slack
    if isinstance(constraint, cp.constraints.Equality | cp.constraints.Zero):
        return cp.abs(constraint.expr) <= slack
    return constraint


def _violation(constraint: Any) -> float:
    return float(np.max(constraint.violation(), initial=0.0))


def _magnitude(constraint: Any) -> float:
    """Largest number among a constraint's terms."""
    return max(float(np.max(np.abs(term.value), initial=0.0)) for term in constraint.args)
