"""Descent on the reduced objective: second-order steps whose hinges are settled by pivots, starts in a batch.

A step minimises the quadratic model; devices that the step would push across their kink are switched on or
off, and it is minimised again, a few times. The best of a few step sizes is taken. Where the model bends
down, or does not lead down, its convex part is used. Every few steps the worse half of the starts is dropped.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim.combined.reduced import ReducedObjective
from optim.combined.second_order import SecondOrderModel, second_order
from optim.linear import solve_ridge
from optim.options import SolverOptions

PIVOTS = 3
STEP_SIZES = np.array([1.0, 0.6, 0.3, 0.1, 0.02, 2e-3, 1.5])
# After how many steps the better half of the starts stays, and how many always stay.
STEPS_PER_ROUND = 4
FEWEST = 3

Points = Complex[np.ndarray, "S D"]
Real = Float[np.ndarray, "S d"]


@dataclass(frozen=True, eq=False)
class Descent:
    """Where the best start arrived, the best error after every step, and whether it came to rest."""

    point: Complex[np.ndarray, "D"]
    history: tuple[float, ...]
    converged: bool


@dataclass(frozen=True, eq=False)
class _Runs:
    """The starts still running."""

    points: Points
    values: Float[np.ndarray, "S"]
    resting: Bool[np.ndarray, "S"]

    def kept(self, which: np.ndarray) -> "_Runs":
        return _Runs(self.points[which], self.values[which], self.resting[which])


def descend(objective: ReducedObjective, points: Points, options: SolverOptions) -> Descent:
    """Steps until every start that is left has come to rest."""
    runs = _Runs(points, objective.value(points), np.zeros(len(points), dtype=bool))
    history = [float(runs.values.min())]
    for step in range(options.max_iterations):
        if runs.resting.all():
            break
        runs = _stepped(objective, runs, options.tolerance)
        history.append(float(runs.values.min()))
        if step % STEPS_PER_ROUND == STEPS_PER_ROUND - 1 and len(runs.values) > FEWEST:
            left = max(FEWEST, len(runs.values) // 2)
            runs = runs.kept(np.argsort(runs.values, kind="stable")[:left])
    best = int(np.argmin(runs.values))
    return Descent(runs.points[best], tuple(history), bool(runs.resting[best]))


def _stepped(objective: ReducedObjective, runs: _Runs, tolerance: float) -> _Runs:
    """One step of every start that is not at rest."""
    moving = np.flatnonzero(~runs.resting)
    before = runs.values[moving]
    model = second_order(objective, runs.points[moving])
    points, values = _best_trial(objective, model, runs.points[moving], cautious=False)
    stuck = ~(before - values > tolerance * before)
    if stuck.any():
        cautious = _best_trial(objective, model.kept(stuck), runs.points[moving[stuck]], cautious=True)
        better = cautious[1] < values[stuck]
        points[stuck] = np.where(better[:, None], cautious[0], points[stuck])
        values[stuck] = np.where(better, cautious[1], values[stuck])
    fell = values < before
    new = _Runs(runs.points.copy(), runs.values.copy(), runs.resting.copy())
    new.points[moving[fell]], new.values[moving[fell]] = points[fell], values[fell]
    new.resting[moving] = ~(before - values > tolerance * before)
    return new


def _best_trial(
    objective: ReducedObjective, model: SecondOrderModel, points: Points, *, cautious: bool
) -> tuple[Points, Float[np.ndarray, "S"]]:
    """The best of a few step sizes, and the error there."""
    trials = points + STEP_SIZES[:, None, None] * _direction(model, points, cautious)
    errors = objective.value(trials)
    best, every = np.argmin(errors, axis=0), np.arange(len(points))
    return trials[best, every], errors[best, every]


def _direction(model: SecondOrderModel, points: Points, cautious: bool) -> Points:
    """The minimiser of the model with the kinks it crosses."""
    devices = model.devices
    losing, priced = devices.losing, devices.losing & devices.hinged
    with_kinks = devices.hinged & (devices.losing == (devices.excess > 0))
    if cautious:  # forgetting a loss may turn the direction up; foreseeing a new one cannot
        with_kinks &= ~devices.losing
    for _ in range(1 + PIVOTS):
        gradient = _gradient(model, losing, priced)
        step = _minimised(model, gradient, losing, priced, cautious)
        ahead = devices.excess + (model.energy_rows @ step[..., None])[..., 0]
        crossed = with_kinks & ((ahead > 0) != priced)
        if not crossed.any():
            break
        priced = priced ^ crossed
        losing = np.where(crossed, priced & devices.losing, losing)
    half = points.shape[-1]
    return step[:, :half] + 1j * step[:, half:]


def _gradient(
    model: SecondOrderModel, losing: Bool[np.ndarray, "S K"], priced: Bool[np.ndarray, "S K"]
) -> Real:
    """With the hinges of devices that lose nothing yet but will."""
    devices = model.devices
    pull = (devices.slope * model.moduli * losing[:, None]).reshape(len(losing), 1, -1)
    newly = np.where(priced & ~devices.losing, devices.excess, 0.0)[:, None]
    return model.gradient + (pull @ model.radial_rows + newly @ model.energy_rows)[:, 0]


def _minimised(
    model: SecondOrderModel,
    gradient: Real,
    losing: Bool[np.ndarray, "S K"],
    priced: Bool[np.ndarray, "S K"],
    cautious: bool,
) -> Real:
    """Newton's step; where it leads up, or caution is asked for, that of the convex part."""
    everywhere = np.ones(len(gradient), dtype=bool)
    step = _solved(model, gradient, losing, priced, everywhere, convex=cautious)
    upward = ((gradient * step).sum(axis=-1) > 0) | ~np.isfinite(step).all(axis=-1)
    if upward.any() and not cautious:
        step[upward] = _solved(model, gradient, losing, priced, upward, convex=True)
    return step


def _solved(
    model: SecondOrderModel,
    gradient: Real,
    losing: Bool[np.ndarray, "S K"],
    priced: Bool[np.ndarray, "S K"],
    which: Bool[np.ndarray, "S"],
    *,
    convex: bool,
) -> Float[np.ndarray, "_ d"]:
    devices, lost = model.devices, losing[which, None]
    radial = (devices.radial[which] * lost).reshape(len(lost), -1)
    parts = [(model.radial_rows, np.maximum(radial, 0.0) if convex else radial)]
    if not convex:
        parts.append((model.turning_rows, (devices.slope[which] * lost).reshape(len(lost), -1)))
    parts.append((model.energy_rows, priced[which].astype(np.float64)))
    hessian = model.curvature[which]
    for rows, weights in parts:
        bent = (weights != 0).any(axis=0)  # in a large cohort most devices lose nothing
        curved = rows[which][:, bent]
        hessian = hessian + np.swapaxes(curved, -1, -2) @ (weights[:, bent, None] * curved)
    return -solve_ridge(hessian, gradient[which][..., None])[..., 0]
