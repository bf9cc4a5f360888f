r"""The convex core: least squares with one-sided residuals, by finite Newton, for a whole batch.

.. math:: \min_x\ \|x\|^2 + \sum_k (w_k - r_k x)_+^2

the primal of a support vector machine with squared hinge loss. On the active set
:math:`S = \{k : r_k x < w_k\}` the objective is a ridge regression, solved exactly; the sets are
finite in number, so exchanging them with a line search ends after finitely many steps [Mangasarian02].
"""

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim.linear import solve_ridge

# Full exchanges settle most problems; the rest continues with a line search, which cannot cycle.
FULL_EXCHANGES = 4
DAMPED_STEPS = 50
STEP_SIZES = np.concatenate([np.linspace(1.0, 0.1, 10), 0.1 * 0.5 ** np.arange(1, 7)])


def minimise_hinge(
    rows: Float[np.ndarray, "*batch K d"],
    targets: Float[np.ndarray, "*batch K"],
    point: Float[np.ndarray, "*batch d"],
) -> Float[np.ndarray, "*batch d"]:
    """The minimiser, searched from the active set of `point`."""
    system = _RidgeSystem(rows, targets)
    active = _margins(rows, point) < targets
    for _ in range(FULL_EXCHANGES):
        point = system.solve(active)
        exchanged = _margins(rows, point) < targets
        moved, active = exchanged != active, exchanged
        if not moved.any():
            return point
    unsettled = moved.any(axis=-1)
    point[unsettled] = _damped_newton(rows[unsettled], targets[unsettled], point[unsettled])
    return point


class _RidgeSystem:
    """Minimisers of ``|x|^2 + sum_S (w_k - r_k x)^2`` for many sets S of the same rows.

    In d dimensions ``(I + R_S^T R_S) x = R_S^T w_S``; with fewer rows than that, by the push-through
    identity, ``x = R_S^T (I + R_S R_S^T)^-1 w_S`` (also the more accurate of the two).
    """

    def __init__(self, rows: Float[np.ndarray, "*batch K d"], targets: Float[np.ndarray, "*batch K"]) -> None:
        self._rows, self._targets = rows, targets
        self._transposed = np.swapaxes(rows, -1, -2)
        num_rows, dimension = rows.shape[-2:]
        self._in_rows = num_rows <= dimension
        self._gram = rows @ self._transposed if self._in_rows else None
        self._identity = np.eye(num_rows if self._in_rows else dimension)

    def solve(self, active: Bool[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch d"]:
        wanted = np.where(active, self._targets, 0.0)[..., None]
        if self._gram is not None:
            masked = self._gram * (active[..., :, None] & active[..., None, :])
            return (self._transposed @ solve_ridge(self._identity + masked, wanted))[..., 0]
        gram = self._transposed @ (self._rows * active[..., None])
        return solve_ridge(self._identity + gram, self._transposed @ wanted)[..., 0]


def _damped_newton(
    rows: Float[np.ndarray, "B K d"], targets: Float[np.ndarray, "B K"], point: Float[np.ndarray, "B d"]
) -> Float[np.ndarray, "B d"]:
    """Finite Newton with a line search: the objective falls until every active set has settled."""
    system = _RidgeSystem(rows, targets)
    every = np.arange(len(point))
    for _ in range(DAMPED_STEPS):
        active = _margins(rows, point) < targets
        newton = system.solve(active)
        if ((_margins(rows, newton) < targets) == active).all():
            return newton
        trials = point[:, None] + STEP_SIZES[:, None] * (newton - point)[:, None]  # B T d
        shortfall = np.maximum(targets[:, None] - trials @ np.swapaxes(rows, -1, -2), 0.0)
        best = np.argmin((trials**2).sum(axis=-1) + (shortfall**2).sum(axis=-1), axis=-1)
        point = trials[every, best]
    return point


def _margins(
    rows: Float[np.ndarray, "*batch K d"], point: Float[np.ndarray, "*batch d"]
) -> Float[np.ndarray, "*batch K"]:
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
