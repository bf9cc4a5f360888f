r"""The convex core: a quadratic and one-sided squared residuals, by block pivots, for a whole batch.

.. math:: \min_y\ y^T H y + \sum_k (w_k - r_k y)_+^2

the primal of a support vector machine with squared hinge loss. On the active set :math:`S = \{k : r_k y <
w_k\}` the minimiser solves one linear system. All wrong memberships are exchanged at once while that makes
them fewer, and a few times more; then one at a time, the last first, which cannot cycle
[Judice94]. That takes about three systems where plain exchanges would cycle.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim.linear import solve_ridge

# Full exchanges that may fail to reduce the number of wrong memberships.
PATIENCE = 3
MAX_PIVOTS = 100
# For a model without a minimiser, whose pivots may never settle: beyond these the direction hardly improves.
MAX_MODEL_PIVOTS = 8


def minimise_hinge(
    rows: Float[np.ndarray, "*batch K d"],
    targets: Float[np.ndarray, "*batch K"],
    point: Float[np.ndarray, "*batch d"],
) -> Float[np.ndarray, "*batch d"]:
    """The minimiser for ``H = I``, searched from the active set of `point`."""
    batch, (num_rows, dimension) = rows.shape[:-2], rows.shape[-2:]
    flat_rows, flat_targets = rows.reshape(-1, num_rows, dimension), targets.reshape(-1, num_rows)
    active = products(flat_rows, point.reshape(-1, dimension)) < flat_targets
    if num_rows <= dimension:
        system: _System = _DualSystem(flat_rows @ np.swapaxes(flat_rows, -1, -2), flat_rows, flat_targets)
    else:
        identity = np.broadcast_to(np.eye(dimension), (len(flat_rows), dimension, dimension))
        system = _PrimalSystem(identity, flat_rows, flat_targets)
    limits = np.full(len(active), MAX_PIVOTS)
    return pivot(system, active, limits).reshape(*batch, dimension)


def minimise_model(
    curvature: Float[np.ndarray, "B d d"],
    rows: Float[np.ndarray, "B K d"],
    targets: Float[np.ndarray, "B K"],
    active: Bool[np.ndarray, "B K"],
    convex: Bool[np.ndarray, "B"],
) -> Float[np.ndarray, "B d"]:
    """The stationary point for a general ``H``, searched from `active`; the minimiser where `convex`."""
    limits = np.where(convex, MAX_PIVOTS, MAX_MODEL_PIVOTS)
    return pivot(_PrimalSystem(curvature, rows, targets), active, limits)


class _PrimalSystem:
    """Stationary points for given active sets: ``(H + R_S^T R_S) y = R_S^T w_S``.

    From one set to the next only the rows that came or went are added or taken away.
    """

    def __init__(
        self,
        curvature: Float[np.ndarray, "B d d"],
        rows: Float[np.ndarray, "B K d"],
        targets: Float[np.ndarray, "B K"],
    ) -> None:
        self.rows, self.targets = rows, targets
        self._matrix = curvature
        self._active = np.zeros(targets.shape, dtype=bool)

    def solve(self, active: Bool[np.ndarray, "B K"]) -> Float[np.ndarray, "B d"]:
        rows, change = self.rows, active.astype(np.float64) - self._active
        changed = (change != 0).any(axis=0)
        if 2 * changed.sum() < changed.size:
            rows, change = rows[:, changed], change[:, changed]
        self._matrix = self._matrix + np.swapaxes(rows, -1, -2) @ (change[..., None] * rows)
        self._active = active
        wanted = np.swapaxes(self.rows, -1, -2) @ (active * self.targets)[..., None]
        return solve_ridge(self._matrix, wanted)[..., 0]

    def kept(self, mask: Bool[np.ndarray, "B"]) -> "_PrimalSystem":
        rest = _PrimalSystem(self._matrix[mask], self.rows[mask], self.targets[mask])
        rest._active = self._active[mask]
        return rest


@dataclass(frozen=True, eq=False)
class _DualSystem:
    """The same for ``H = I`` and few rows, smaller, more accurate: ``y = R_S^T (I + R_S R_S^T)^-1 w_S``."""

    gram: Float[np.ndarray, "B K K"]
    rows: Float[np.ndarray, "B K d"]
    targets: Float[np.ndarray, "B K"]

    def solve(self, active: Bool[np.ndarray, "B K"]) -> Float[np.ndarray, "B d"]:
        masked = self.gram * (active[..., :, None] & active[..., None, :])
        wanted = (active * self.targets)[..., None]
        dual = solve_ridge(np.eye(self.gram.shape[-1]) + masked, wanted)
        return (np.swapaxes(self.rows, -1, -2) @ dual)[..., 0]

    def kept(self, mask: Bool[np.ndarray, "B"]) -> "_DualSystem":
        return _DualSystem(self.gram[mask], self.rows[mask], self.targets[mask])


_System = _PrimalSystem | _DualSystem


def pivot(
    system: _System, active: Bool[np.ndarray, "B K"], limits: Int[np.ndarray, "B"]
) -> Float[np.ndarray, "B d"]:
    """Block principal pivoting from the given active sets; problems that settled drop out."""
    point = np.empty((len(active), system.rows.shape[-1]))
    places, rules = np.arange(len(active)), _PivotRule.fresh(len(active))
    for count in range(1, int(limits.max(initial=0)) + 1):
        found = system.solve(active)
        point[places] = found
        wrong = (products(system.rows, found) < system.targets) != active
        unsettled = wrong.any(axis=-1) & (count < limits)
        remaining = int(unsettled.sum())
        if not remaining:
            break
        # Dropping problems copies the others: only when it halves the work.
        if 2 * remaining <= len(unsettled):
            places, system, rules = places[unsettled], system.kept(unsettled), rules.kept(unsettled)
            active, wrong, limits = active[unsettled], wrong[unsettled], limits[unsettled]
        else:
            wrong = wrong & unsettled[:, None]
        active = active ^ rules.exchanges(wrong)
    return point


@dataclass(eq=False)
class _PivotRule:
    """Which memberships each problem exchanges next."""

    fewest: Int[np.ndarray, "B"]
    patience: Int[np.ndarray, "B"]

    @classmethod
    def fresh(cls, count: int) -> "_PivotRule":
        return cls(np.full(count, np.iinfo(np.int64).max), np.full(count, PATIENCE))

    def kept(self, mask: Bool[np.ndarray, "B"]) -> "_PivotRule":
        return _PivotRule(self.fewest[mask], self.patience[mask])

    def exchanges(self, wrong: Bool[np.ndarray, "B K"]) -> Bool[np.ndarray, "B K"]:
        count = wrong.sum(axis=-1)
        fewer = count < self.fewest
        everything = fewer | (self.patience > 0)
        self.patience = np.where(fewer, PATIENCE, self.patience - 1)
        self.fewest = np.minimum(self.fewest, count)
        if everything.all():
            return wrong
        last = np.cumsum(wrong, axis=-1) == count[:, None]
        return wrong & (everything[:, None] | last)


def products(
    rows: Float[np.ndarray, "*batch K d"], point: Float[np.ndarray, "*batch d"]
) -> Float[np.ndarray, "*batch K"]:
    """``r_k y``."""
    return (rows @ point[..., None])[..., 0]


def real_rows(rows: Complex[np.ndarray, "*batch K n"]) -> Float[np.ndarray, "*batch K 2*n"]:
    """Rows whose product with :func:`real_point` is the real part of the complex product."""
    return np.concatenate([rows.real, -rows.imag], axis=-1)


def real_point(point: Complex[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch 2*n"]:
    """Real and imaginary parts, stacked."""
    return np.concatenate([point.real, point.imag], axis=-1)


def complex_point(point: Float[np.ndarray, "*batch d"]) -> Complex[np.ndarray, "*batch d//2"]:
    """The inverse of :func:`real_point`."""
    half = point.shape[-1] // 2
    return point[..., :half] + 1j * point[..., half:]
