"""What a solver hands back: a design, its error, what no design can beat, and how it ended."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from optim import mse
from optim.design import TransceiverDesign
from optim.problem import AirCompProblem
from optim.tight_bound import LARGEST_SYSTEM

# Recomputed numbers must agree to this relative accuracy; powers may exceed a budget by as much.
AGREEMENT = 1e-9

Value = Float[np.ndarray, "*batch"] | float
History = tuple[float, ...]


class Status(enum.Enum):
    """How a solve ended, as a sentence."""

    PROVED_OPTIMAL = (
        "No design is better: the error meets its lower bound to within rounding or the asked gap."
    )
    CONVERGED = "The error fell by less than the tolerance in the last step."
    ITERATION_LIMIT = "The iteration limit was reached. Raise `max_iterations` for a smaller error."
    LOOSE_BOUND = (
        "The error fell by less than the tolerance. With so many devices, the bound takes only those into "
        "account that are hardest to hear: the gap says little about the design."
    )
    NODE_LIMIT = (
        "The proof stopped at its node limit. Design and bound are the best so far; raise `node_limit`."
    )
    TIME_LIMIT = (
        "The proof stopped at its time limit. Design and bound are the best so far; raise `time_limit_s`."
    )
    CLOSED_FORM = "The design is the value of a formula; nothing was iterated."
    RELAXED = "The design was drawn from the solution of a convex relaxation; nothing was iterated."
    SOLVER_REPLACED = (
        "Clarabel failed on this problem and SCS solved it instead. Design and bound are valid as always, "
        "since both are recomputed in closed form, but they may lie further apart than they need to."
    )
    SOLVER_INACCURATE = (
        "The convex solver stopped short of its accuracy. Design and bound are still valid, since both are "
        "recomputed in closed form, but they may lie further apart than they need to."
    )
    INFEASIBLE = (
        "The convex solver failed. The design is the best of the starting points. Likely causes: a device in "
        "a deep fade, or powers that differ by many orders of magnitude."
    )
    SILENT = (
        "Nothing can arrive: every device lacks a target, power or a channel. The best design is silence."
    )


# A relative gap at rounding level proves a global optimum.
PROVED_GAP = 1e-6
PROVABLE = (
    Status.CONVERGED,
    Status.ITERATION_LIMIT,
    Status.RELAXED,
    Status.LOOSE_BOUND,
    Status.SOLVER_INACCURATE,
)


class VerificationError(AssertionError):
    """A solution disagrees with its problem."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A design for an :class:`~optim.AirCompProblem`; in a batch all numbers are per instance.

    `lower_bound` is below the `objective` of every design: the error, unless misalignment is weighted.
    """

    design: TransceiverDesign
    misalignment: Value
    csi_term: Value
    noise_term: Value
    misalignment_weight: Value
    power_budget_w: Float[np.ndarray, "*batch K"]
    lower_bound: Value
    status: Status | tuple[Status, ...]
    history: History | Sequence[History]

    @property
    def mse(self) -> Value:
        """Mean squared error per complex symbol: misalignment, imperfect CSI and noise."""
        return self.misalignment + self.csi_term + self.noise_term

    @property
    def objective(self) -> Value:
        """What was minimised: the error with misalignment times `misalignment_weight`."""
        return self.misalignment_weight * self.misalignment + self.csi_term + self.noise_term

    @property
    def mse_db(self) -> Value:
        """The error in decibels; minus infinity where it is zero."""
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.mse)

    @property
    def gap(self) -> Value:
        """``objective / lower_bound - 1``: distance to the certificate; at rounding level, a proof."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def bound_is_loose(self) -> Bool[np.ndarray, "*batch"] | bool:
        """Whether the bound leaves out devices, as there are too many, so that the gap says little.

        A bound that the error meets is tight, however many there are.
        """
        crowded = self.power_budget_w.shape[-1] > LARGEST_SYSTEM
        loose = crowded & (np.asarray(self.gap) > PROVED_GAP)
        return loose if loose.ndim else bool(loose)

    @property
    def power_w(self) -> Float[np.ndarray, "*batch K"]:
        """Power that each device spends."""
        return self.design.power_w

    @property
    def power_dbm(self) -> Float[np.ndarray, "*batch K"]:
        """Power that each device spends; minus infinity for a silent one."""
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.power_w) + 30

    @property
    def at_power_limit(self) -> Bool[np.ndarray, "*batch K"]:
        """Which devices spend all they have; the others invert their channel."""
        return np.asarray(self.power_w >= self.power_budget_w * (1 - AGREEMENT))

    def verify(self, problem: AirCompProblem) -> None:
        """Recompute error and powers; of the bound only that it is not above the error.

        Raises:
            VerificationError: naming the quantity that disagrees.
        """
        _require_fit(self.design, problem)
        require_equal("misalignment", self.misalignment, mse.misalignment(problem, self.design), self.mse)
        require_equal("csi_term", self.csi_term, mse.csi_error(problem, self.design), self.mse)
        require_equal("noise_term", self.noise_term, mse.noise(problem, self.design), self.mse)
        require_at_most("power_w", self.power_w, problem.power_budget_w)
        require_at_most("lower_bound", self.lower_bound, self.objective)


def _require_fit(design: TransceiverDesign, problem: AirCompProblem) -> None:
    try:
        design.require_fit(problem.stacked_channel.shape, "design")
    except ValueError as misfit:
        raise VerificationError(str(misfit)) from misfit


def relative_gap(value: Value, bound: Value) -> Value:
    """``value / bound - 1``: 0 where both vanish, infinite where only the bound does."""
    error, floor = np.asarray(value), np.asarray(bound)
    proved = floor > 0
    ratio = error / np.where(proved, floor, 1.0) - 1
    gap = np.where(proved, ratio, np.where(error > 0, np.inf, 0.0))
    return gap if gap.ndim else float(gap)


def require_equal(field: str, claimed: Value, recomputed: Value, scale: Value) -> None:
    """Raise unless both agree to ``AGREEMENT`` times `scale`."""
    wrong = ~(np.abs(np.asarray(claimed) - recomputed) <= AGREEMENT * np.asarray(scale))
    if wrong.any():
        raise VerificationError(f"{field} is claimed as {claimed}, but the design gives {recomputed}")


def require_at_most(field: str, value: Value, limit: Value) -> None:
    """Raise if `value` exceeds `limit` by more than ``AGREEMENT`` of it, or is no number."""
    wrong = ~(np.asarray(value) <= np.asarray(limit) * (1 + AGREEMENT))
    if wrong.any():
        raise VerificationError(f"{field} = {value} exceeds its limit {limit}")
