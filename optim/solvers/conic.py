r"""The cvxpy core that relaxation and successive approximation share, scaled so that its optimum is near 1.

Per receiver, with :math:`u_k` standing for :math:`|a_k x|^2` at reference power,

.. math:: \min\ \sum_i W_i \Big[ \mathrm{noise}_i + \sum_k (w_k - t_k)^2 \Big]
          \quad\text{s.t.}\quad t_k^2 \le p_k u_k,\ p \in \mathcal P

is jointly convex in powers and :math:`u`, since :math:`\sqrt{p u}` is concave. With an upper bound UB on
the optimum, :math:`t = w \tau` and beams in units of :math:`\sqrt{\mathrm{UB} / W_i}` all numbers are of
order one; interior-point solvers lose digits or fail otherwise.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float, Int

from optim.combined.form import CombinedForm
from optim.combined.power_split import DeviceBudgets
from optim.solution import Status

FAILED = "failed"
# Clarabel failed and SCS solved it.
REPLACED = "replaced"
# What is said of a program that was not plainly solved.
STATUSES = {
    REPLACED: Status.SOLVER_REPLACED,
    cp.OPTIMAL_INACCURATE: Status.SOLVER_INACCURATE,
    FAILED: Status.INFEASIBLE,
}
SETTINGS = {cp.SCS: {"eps": 1e-7, "max_iters": 20_000}}


@dataclass(frozen=True, eq=False)
class ConicStream:
    """One receiver's reachable devices, rows at reference power, scaled: ``rows * sqrt(UB / W) / w``."""

    rows: Complex[np.ndarray, "m n"]
    lost_weight: Float[np.ndarray, "m"]
    beam_unit: float
    multiplier_unit: Float[np.ndarray, "m"]
    phase: int
    receiver: int
    devices: Int[np.ndarray, "m"]


def scaled_stream(
    rows: Complex[np.ndarray, "K n"],
    targets: Float[np.ndarray, "K"],
    weight: float,
    upper_bound: float,
    place: tuple[int, int, Int[np.ndarray, "K"]],
) -> ConicStream | None:
    """The scaled stream of devices that have a target and a channel; None if there are none."""
    phase, receiver, devices = place
    kept = (np.abs(rows).max(axis=-1, initial=0.0) > 0) & (targets > 0)
    if weight <= 0 or not kept.any():
        return None
    rows, targets = rows[kept], targets[kept]
    unit = np.sqrt(upper_bound / weight)
    return ConicStream(
        rows=rows * unit / targets[:, None],
        lost_weight=targets / unit,
        beam_unit=float(unit),
        multiplier_unit=(unit / targets) ** 2,
        phase=phase,
        receiver=receiver,
        devices=devices[kept],
    )


def receiver_stream(
    rows: Complex[np.ndarray, "K n"], targets: Float[np.ndarray, "K"], upper_bound: float
) -> ConicStream | None:
    """One receiver with fixed powers."""
    return scaled_stream(rows, targets, 1.0, upper_bound, (0, 0, np.arange(len(rows))))


def combined_streams(form: CombinedForm, upper_bound: float) -> list[ConicStream]:
    """All receivers of a combined problem that can hear a device with a target."""
    streams = []
    for phase, stack in enumerate(form.stacks):
        for receiver, weight in enumerate(stack.weights):
            place = (phase, receiver, stack.devices[receiver])
            parts = stack.rows[receiver], stack.targets[receiver], float(weight)
            streams.append(scaled_stream(*parts, upper_bound, place))
    return [stream for stream in streams if stream is not None]


def lost_signal(lost_weight: Any, arriving: Any, power: Any) -> tuple[Any, list[Any]]:
    """Scaled misalignment of a stream whose squared gains are the affine `arriving`; and its constraints."""
    tau = cp.Variable(lost_weight.shape)
    product = cp.SOC(power + arriving, cp.vstack([2 * tau, power - arriving]))  # tau^2 <= power * arriving
    return cp.sum_squares(cp.multiply(lost_weight, 1 - tau)), [product, tau <= 1]


@dataclass(frozen=True, eq=False)
class PowerLimits:
    """Relative powers of all phases within peak and average, whose values are parameters."""

    power: Any
    peak: Any
    average: Any
    shares: Any

    @property
    def constraints(self) -> list[Any]:
        """What the powers keep."""
        return [self.power <= self.peak, self.shares @ self.power <= self.average]

    def load(self, budgets: DeviceBudgets) -> None:
        """Put in the numbers of a problem."""
        self.peak.value = np.broadcast_to(budgets.peak, budgets.targets.shape)
        self.average.value = budgets.average
        self.shares.value = budgets.shares[:, 0]


def power_limits(num_phases: int, num_devices: int) -> PowerLimits:
    """Power variables of every phase and device, and their limits."""
    power = cp.Variable((num_phases, num_devices), nonneg=True)
    peak, average = cp.Parameter(power.shape, nonneg=True), cp.Parameter(num_devices, nonneg=True)
    return PowerLimits(power, peak, average, cp.Parameter(num_phases, nonneg=True))


def solve_conic(problem: Any, solver: str = "") -> str:
    """Solve by the named solver, else by Clarabel and where that fails by SCS; how that went.

    The cvxpy status, ``REPLACED`` if SCS had to step in, or ``FAILED``.

    Raises:
        ValueError: for a solver that is not installed, or that cannot solve such a program at all.
    """
    if solver:
        return _attempt(problem, installed(solver), named=True)
    verdict = _attempt(problem, cp.CLARABEL)
    if verdict != FAILED:
        return verdict
    verdict = _attempt(problem, cp.SCS)
    return REPLACED if verdict == cp.OPTIMAL else verdict


def installed(solver: str) -> str:
    """The solver's name as cvxpy spells it, or a `ValueError` that lists what is installed."""
    if solver.upper() not in cp.installed_solvers():
        raise ValueError(
            f"conic_solver = {solver!r} is not installed: choose from "
            f"{', '.join(sorted(cp.installed_solvers()))}, or leave it empty"
        )
    return solver.upper()


def _attempt(problem: Any, solver: str, named: bool = False) -> str:
    try:
        # "Solution may be inaccurate" is told by the status, and nothing inaccurate is trusted. A program
        # that is solved again must not remember the last solution: results would depend on the order.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            problem.solve(solver=solver, warm_start=False, **SETTINGS.get(solver, {}))
    except cp.SolverError as error:
        if named:
            _require_able(problem, solver, error)
        return FAILED
    return str(problem.status) if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) else FAILED


def _require_able(problem: Any, solver: str, error: Exception) -> None:
    """Raise `ValueError` if the solver does not know the program's cones: compiling for it fails, too."""
    try:
        problem.get_problem_data(solver)
    except cp.SolverError:
        raise ValueError(
            f"conic_solver = {solver!r} cannot solve this method's programs: choose CLARABEL or SCS, or "
            f"leave it empty ({error})"
        ) from error
