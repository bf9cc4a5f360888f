r"""The tightest multipliers under one energy budget: a primal-dual interior-point method.

.. math:: \max_{\mu \ge 0}\ \sum_k g_k(\mu_k) \quad\text{s.t.}\quad
          S_i = I - \sum_k \mu_{ik} a_{ik}^H a_{ik} \succeq 0

with :math:`g_k` the concave value of a device's multipliers. Newton's method on :math:`Y_i S_i = \tau I`,
:math:`\mu v = \tau` and :math:`\nabla g + v = a Y a^H` with Mehrotra's corrector: one real system over all
transmissions per step, in which receivers are coupled by the devices' J x J blocks alone. :math:`X_i = Y_i /
W_i` needs to stay positive semidefinite only: with the best power split behind the gains :math:`\sqrt{a X
a^H}` it has a value of its own, never below the relaxation's optimum, and their distance says when to stop.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from optim.combined.bound import closed_form_multipliers
from optim.combined.device_value import DeviceValue, device_value
from optim.combined.form import CombinedForm
from optim.combined.layout import Flat, Layout, Squares
from optim.combined.power_split import best_split
from optim.combined.psd import inverse_roots, largest_ratio_step, largest_step
from optim.linear import solve_ridge

MAX_STEPS = 50
# How far towards the boundary of the cones a step goes.
TO_BOUNDARY = 0.95
# Of the central path where a receiver starts; the value is of order one.
LOWEST_LEVEL = 1e-6


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Multipliers, covariances X per stack, and the powers of the relaxed problem."""

    multipliers: Float[np.ndarray, "J K"]
    covariances: Squares
    power: Float[np.ndarray, "J K"]


def relax(form: CombinedForm, tolerance: float) -> Relaxation:
    """The relaxation solved until its two values are within `tolerance` (relative) of each other."""
    layout = Layout(form)
    point = _start(layout)
    value = device_value(form.budgets, layout.table(point.multipliers))
    for _ in range(MAX_STEPS if layout.size else 0):
        if not _primal_value(layout, point.lifts) - value.value > tolerance * value.value:
            break
        point = _Newton(layout, point, value).stepped()
        value = device_value(form.budgets, layout.table(point.multipliers))
    covariances = layout.covariances(point.lifts)
    power = best_split(form.budgets, layout.strengths(covariances))
    return Relaxation(layout.table(point.multipliers), covariances, power)


@dataclass(frozen=True, eq=False)
class _Point:
    """Multipliers mu, their own multipliers v, lifts Y; also used for directions."""

    multipliers: Flat
    slack: Flat
    lifts: Squares

    def moved(self, direction: "_Point", dual: float, primal: float) -> "_Point":
        lifts = zip(self.lifts, direction.lifts, strict=True)
        return _Point(
            self.multipliers + dual * direction.multipliers,
            self.slack + primal * direction.slack,
            tuple(lift + primal * change for lift, change in lifts),
        )


def _primal_value(layout: Layout, lifts: Squares) -> float:
    form = layout.form
    strengths = np.where(layout.used, layout.strengths(layout.covariances(lifts)), 0.0)
    power = best_split(form.budgets, strengths)
    shortfall = np.maximum(form.budgets.targets - np.sqrt(power) * strengths, 0.0)
    missing = (form.device_weights * shortfall**2)[layout.used].sum()
    return float(missing + sum(np.trace(lift, axis1=-2, axis2=-1).real.sum() for lift in lifts))


def _start(layout: Layout) -> _Point:
    """Matched multipliers half way to the boundary, and lifts on the central path of their own receiver."""
    matched = closed_form_multipliers(layout.form)[1][layout.used]
    radii = [np.linalg.eigvalsh(gram)[:, -1:] for gram in layout.weighted_grams(matched)]
    multipliers = 0.5 * matched / layout.spread(radii)
    gradient = device_value(layout.form.budgets, layout.table(multipliers)).gradient[layout.used]
    grams, worth = layout.weighted_grams(multipliers), layout.stacked(multipliers * gradient)
    lifts, levels = [], []
    for gram, values in zip(grams, worth, strict=True):
        inverse = np.linalg.inv(np.eye(gram.shape[-1]) - gram)
        carried = np.trace(inverse @ gram, axis1=-2, axis2=-1).real
        level = values.sum(axis=-1) / np.where(carried > 0, carried, 1.0)
        level = np.maximum(level, LOWEST_LEVEL)
        lifts.append(level[:, None, None] * inverse)
        levels.append(level[:, None])
    return _Point(multipliers, layout.spread(levels) / multipliers, tuple(lifts))


class _Newton:
    """The linearised conditions at one point, solved for several targets on the central path."""

    def __init__(self, layout: Layout, point: _Point, value: DeviceValue) -> None:
        self._layout, self._point = layout, point
        self._slacks = tuple(
            np.eye(gram.shape[-1]) - gram for gram in layout.weighted_grams(point.multipliers)
        )
        self._roots, self._lift_roots = inverse_roots(self._slacks), inverse_roots(point.lifts)
        self._inverses = tuple(root @ root for root in self._roots)
        self._gradient = value.gradient[layout.used]
        self._barrier = layout.quadratic(self._inverses)
        # Relative changes of the multipliers: the system's entries then are of one order.
        mu = point.multipliers
        system = mu[:, None] * _system(layout, point.lifts, self._inverses, value) * mu
        system += np.diag(mu * point.slack)
        self._inverse = mu[:, None] * solve_ridge(system, np.diag(mu))

    def stepped(self) -> _Point:
        """Mehrotra's step: how far a step to the boundary itself would get says where to aim."""
        layout, point = self._layout, self._point
        size = layout.size + sum(int((rows != 0).any(axis=1).sum()) for rows in layout.rows)
        level = self._complementarity(point) / size
        ahead = self._direction(0.0, None)
        dual, primal = (min(step, 1.0) for step in self._limits(ahead))
        reached = self._complementarity(point.moved(ahead, dual, primal)) / size
        aim = level * min(max(reached / level, 0.0), 1.0) ** 2
        direction = self._direction(aim, ahead)
        dual, primal = (min(TO_BOUNDARY * step, 1.0) for step in self._limits(direction))
        return point.moved(direction, dual, primal)

    def _direction(self, aim: float, predictor: _Point | None) -> _Point:
        """The Newton direction towards `aim`, corrected for what the predictor's products leave out."""
        layout, point = self._layout, self._point
        reaction: Squares = tuple(aim * inverse for inverse in self._inverses)
        goal = np.full(layout.size, aim)
        if predictor is not None:
            bends = self._reaction(predictor.lifts, predictor.multipliers)
            reaction = tuple(part + bend for part, bend in zip(reaction, bends, strict=True))
            goal = goal - predictor.multipliers * predictor.slack
        pull = aim * self._barrier if predictor is None else layout.quadratic(reaction)
        change = self._inverse @ (self._gradient - pull + goal / point.multipliers)
        follow = self._reaction(point.lifts, change)
        lifts = (r - y + f for r, y, f in zip(reaction, point.lifts, follow, strict=True))
        slack = (goal - point.slack * change) / point.multipliers - point.slack
        return _Point(change, slack, tuple(lifts))

    def _reaction(self, lifts: Squares, change: Flat) -> Squares:
        """``sym(Y (A^H diag(change) A) S^-1)``."""
        parts = zip(lifts, self._layout.weighted_grams(change), self._inverses, strict=True)
        return tuple(_hermitian(lift @ gram @ inverse) for lift, gram, inverse in parts)

    def _limits(self, direction: _Point) -> tuple[float, float]:
        """Largest steps in the multipliers, and in what is dual to them."""
        fallen = tuple(-gram for gram in self._layout.weighted_grams(direction.multipliers))
        dual = largest_ratio_step(self._point.multipliers, direction.multipliers)
        primal = largest_ratio_step(self._point.slack, direction.slack)
        return (
            min(dual, largest_step(self._roots, fallen)),
            min(primal, largest_step(self._lift_roots, direction.lifts)),
        )

    def _complementarity(self, point: _Point) -> float:
        grams = self._layout.weighted_grams(point.multipliers)
        pairs = zip(point.lifts, grams, strict=True)
        cones = sum(np.trace(lift - lift @ gram, axis1=-2, axis2=-1).real.sum() for lift, gram in pairs)
        return float(point.multipliers @ point.slack + cones)


def _system(
    layout: Layout, lifts: Squares, inverses: Squares, value: DeviceValue
) -> Float[np.ndarray, "M M"]:
    """``Re(A Y A^H o conj(A S^-1 A^H))`` per receiver, less the Hessian of the devices' values."""
    padded = np.zeros((layout.size + 1, layout.size + 1))
    for rows, place, lift, inverse in zip(layout.rows, layout.places, lifts, inverses, strict=True):
        adjoint = np.swapaxes(rows.conj(), -1, -2)
        product = ((rows @ lift @ adjoint) * (rows @ inverse @ adjoint).conj()).real
        padded[place[:, :, None], place[:, None, :]] = product
    system = padded[:-1, :-1]
    every = np.arange(layout.size)
    system[every, every] += value.curvature[layout.used]
    exchange = value.exchange[layout.used]
    first, second = layout.pairs
    system[first, second] -= exchange[first] * exchange[second]
    return system


def _hermitian(squares: Complex[np.ndarray, "r n n"]) -> Complex[np.ndarray, "r n n"]:
    return (squares + np.swapaxes(squares.conj(), -1, -2)) / 2
