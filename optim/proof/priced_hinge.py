r"""Least squares with priced one-sided residuals, and what any of its multipliers certifies.

.. math:: \min_x\ x^T S x + \sum_i p_i (t_i - r_i x)_+^2 \ \ge\
          \frac{(\sum_i \mu_i t_i)_+^2}{\sum_i \mu_i^2 / p_i + v^T S^{-1} v}, \qquad v = \sum_i \mu_i r_i

for any :math:`\mu \ge 0`, with equality at :math:`\mu_i = p_i (t_i - r_i x)_+` of the minimiser. It is found
by Newton's method on the active rows, full steps first, then exact line searches. Since the
certificate is evaluated in closed form, the method may stop early: when the certified value suffices, or when
the minimum is known well enough to see that it never will.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float

from optim.hinge import products
from optim.linear import solve_ridge

MAX_STEPS = 12
FULL_STEPS = 2
LONGEST_STEP = 4.0
# Part of the distance from the minimum to the value asked for that may stay uncertified.
LEFT_UNCERTIFIED = 0.1

Points = Float[np.ndarray, "P d"]
PerRow = Float[np.ndarray, "P R"]
Values = Float[np.ndarray, "P"]


@dataclass(frozen=True, eq=False)
class PricedHinges:
    """Problems side by side; `enough` is the value from which on more is of no use."""

    matrix: Float[np.ndarray, "P d d"]
    inverse: Float[np.ndarray, "P d d"]
    rows: Float[np.ndarray, "P R d"]
    targets: PerRow
    prices: PerRow
    enough: Values

    def taken(self, chosen: Bool[np.ndarray, "P"]) -> "PricedHinges":
        """Some of the problems."""
        return PricedHinges(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def dual_value(self, multipliers: PerRow) -> Values:
        """What non-negative multipliers certify, scaled to where they certify most."""
        pull = (multipliers[:, None] @ self.rows)[:, 0]
        gain = (multipliers * self.targets).sum(axis=-1)
        shares = multipliers / np.where(self.prices > 0, self.prices, 1.0)
        cost = (multipliers * shares).sum(axis=-1) + _quadratic(self.inverse, pull)
        useful = (gain > 0) & (cost > 0)
        return np.where(useful, gain**2 / np.where(useful, cost, 1.0), 0.0)

    def newton_point(self, active: Bool[np.ndarray, "P R"]) -> Points:
        """The minimiser if exactly these rows are short of their targets."""
        columns = np.swapaxes(self.rows * np.where(active, self.prices, 0.0)[..., None], -1, -2)
        return solve_ridge(self.matrix + columns @ self.rows, columns @ self.targets[..., None])[..., 0]

    def ray(self, point: Points, move: Points, fits: PerRow) -> "_Slope":
        """The slope of the value along a ray; `fits` are the rows at its origin."""
        change, short = products(self.rows, move), self.targets - fits
        active = (short > 0) | ((short == 0) & (change < 0))
        push = self.prices * change
        along = (move[:, None] @ self.matrix)[:, 0]
        return _Slope(
            start=(along * point).sum(axis=-1) - (active * push * short).sum(axis=-1),
            rise=(along * move).sum(axis=-1) + (active * push * change).sum(axis=-1),
            bends=np.where(short * change > 0, short / np.where(change != 0, change, 1.0), LONGEST_STEP),
            # A row that meets its target leaves the active ones, one that loses it joins.
            start_jumps=np.abs(push) * short,
            rise_jumps=-np.abs(push) * change,
        )


@dataclass(frozen=True, eq=False)
class _Slope:
    """Half the slope along a ray, ``start + rise s``, whose line changes at every bend."""

    start: Values
    rise: Values
    bends: PerRow
    start_jumps: PerRow
    rise_jumps: PerRow

    def root(self) -> Values:
        """Where the slope, which never falls, is zero; at most the longest step."""
        order = np.argsort(self.bends, axis=-1)
        starts = _accumulated(self.start, np.take_along_axis(self.start_jumps, order, axis=-1))
        rises = _accumulated(self.rise, np.take_along_axis(self.rise_jumps, order, axis=-1))
        ends = np.full(starts.shape, LONGEST_STEP)
        ends[:, :-1] = np.minimum(np.take_along_axis(self.bends, order, axis=-1), LONGEST_STEP)
        uphill = starts + rises * ends >= 0
        uphill[:, -1] = True
        piece = (np.arange(len(order)), uphill.argmax(axis=-1))
        steep = rises[piece] > 0
        length = np.where(steep, -starts[piece] / np.where(steep, rises[piece], 1.0), 0.0)
        return np.clip(length, 0.0, LONGEST_STEP)


def certified_minima(problems: PricedHinges, start: Points) -> tuple[Values, Points]:
    """The best certified value of each problem, and the last point."""
    best, points = np.zeros(len(start)), start.copy()
    running, point = np.arange(len(start)), start
    for step in range(MAX_STEPS):
        fits = products(problems.rows, point)
        missing = np.maximum(problems.targets - fits, 0.0)
        multipliers = problems.prices * missing
        best[running] = np.maximum(best[running], problems.dual_value(multipliers))
        points[running] = point
        primal = _quadratic(problems.matrix, point) + (multipliers * missing).sum(axis=-1)
        open_ = _open(problems.enough, best[running], primal)
        if not open_.all():
            running, point, problems = running[open_], point[open_], problems.taken(open_)
            fits, missing = fits[open_], missing[open_]
        if not running.size:
            break
        newton = problems.newton_point(missing > 0)
        if step < FULL_STEPS:
            point = newton
        else:
            move = newton - point
            point = point + problems.ray(point, move, fits).root()[:, None] * move
    return best, points


def _open(enough: Values, certified: Values, primal: Values) -> Bool[np.ndarray, "P"]:
    return np.asarray(
        (certified < enough) & (primal - certified > LEFT_UNCERTIFIED * np.abs(enough - primal))
    )


def _quadratic(matrix: Float[np.ndarray, "P d d"], point: Points) -> Values:
    return np.asarray(((point[:, None] @ matrix)[:, 0] * point).sum(axis=-1))


def _accumulated(first: Values, jumps: PerRow) -> Float[np.ndarray, "P R+1"]:
    """A running sum that begins with `first`."""
    return np.cumsum(np.concatenate([first[:, None], jumps], axis=-1), axis=-1)
