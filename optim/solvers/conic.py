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

FAILED = "failed"


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


def lost_signal(stream: ConicStream, arriving: Any, power: Any) -> tuple[Any, list[Any]]:
    """Scaled misalignment of a stream whose squared gains are the affine `arriving`; and its constraints."""
    tau = cp.Variable(len(stream.devices))
    product = cp.SOC(power + arriving, cp.vstack([2 * tau, power - arriving]))  # tau^2 <= power * arriving
    return cp.sum_squares(cp.multiply(stream.lost_weight, 1 - tau)), [product, tau <= 1]


def power_variables(budgets: DeviceBudgets) -> tuple[Any, list[Any]]:
    """Relative powers of all phases within peak and average."""
    power = cp.Variable(budgets.targets.shape, nonneg=True)
    peaks = np.broadcast_to(budgets.peak, budgets.targets.shape)
    return power, [power <= peaks, budgets.shares[:, 0] @ power <= budgets.average]


def solve_conic(problem: Any) -> str:
    """Solve by Clarabel, by SCS where that fails; the cvxpy status, or ``FAILED``."""
    for solver, settings in ((cp.CLARABEL, {}), (cp.SCS, {"eps": 1e-7, "max_iters": 20_000})):
        try:
            # "Solution may be inaccurate" is told by the status, and nothing inaccurate is trusted.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                problem.solve(solver=solver, **settings)
        except cp.SolverError:
            continue
        if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return str(problem.status)
    return FAILED
