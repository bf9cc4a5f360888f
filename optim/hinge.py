r"""The convex core: least squares with one-sided residuals, by finite Newton, for a whole batch.

.. math:: \min_x\ \|x\|^2 + \sum_k (w_k - r_k x)_+^2

the primal of a support vector machine with squared hinge loss. On the active set
:math:`S = \{k : r_k x < w_k\}` the objective is a ridge regression, solved exactly; the sets are
finite in number, so exchanging them with a line search ends after finitely many steps [Mangasarian02].
"""

import numpy as np
from jaxtyping import Bool, Complex, Float

# Full exchanges of the active set settle nearly always; a line search finishes the rest.
FULL_EXCHANGES = 6
DAMPED_STEPS = 40
STEP_SIZES = 0.5 ** np.arange(12)


def minimise_hinge(
    rows: Float[np.ndarray, "*batch K d"],
    targets: Float[np.ndarray, "*batch K"],
    point: Float[np.ndarray, "*batch d"],
) -> Float[np.ndarray, "*batch d"]:
    """The minimiser, from the active set of `point`."""
    system = _RidgeSystem(rows, targets)
    active = _margins(rows, point) < targets
    for _ in range(FULL_EXCHANGES):
        candidate = system.solve(active)
        exchanged = _margins(rows, candidate) < targets
        if (exchanged == active).all():
            return candidate
        unsettled, active = (exchanged != active).any(axis=-1), exchanged
    damped = _damped_newton(rows[unsettled], targets[unsettled], point[unsettled])
    candidate[unsettled] = damped
    return candidate


def objective(
    rows: Float[np.ndarray, "*batch K d"],
    targets: Float[np.ndarray, "*batch K"],
    point: Float[np.ndarray, "*batch d"],
) -> Float[np.ndarray, "*batch"]:
    """``|x|^2 + sum_k (w_k - r_k x)_+^2``."""
    shortfall = np.maximum(targets - _margins(rows, point), 0.0)
    return np.asarray((point**2).sum(axis=-1) + (shortfall**2).sum(axis=-1))


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
            return (self._transposed @ np.linalg.solve(self._identity + masked, wanted))[..., 0]
        gram = self._transposed @ (self._rows * active[..., None])
        return np.linalg.solve(self._identity + gram, self._transposed @ wanted)[..., 0]


def _damped_newton(
    rows: Float[np.ndarray, "B K d"], targets: Float[np.ndarray, "B K"], point: Float[np.ndarray, "B d"]
) -> Float[np.ndarray, "B d"]:
    """Finite Newton with halved steps: the objective falls in every step until it cannot."""
    system = _RidgeSystem(rows, targets)
    value = objective(rows, targets, point)
    for _ in range(DAMPED_STEPS):
        step = system.solve(_margins(rows, point) < targets) - point
        trials = point[:, None] + STEP_SIZES[:, None] * step[:, None]  # B T d
        values = objective(rows[:, None], targets[:, None], trials)
        best = np.argmin(values, axis=-1)
        improved = np.take_along_axis(values, best[:, None], axis=-1)[:, 0]
        better = improved < value
        if not better.any():
            break
        chosen = np.take_along_axis(trials, best[:, None, None], axis=1)[:, 0]
        point = np.where(better[:, None], chosen, point)
        value = np.where(better, improved, value)
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


def complex_point(point: Float[np.ndarray, "*batch 2*n"]) -> Complex[np.ndarray, "*batch n"]:
    """The inverse of :func:`real_point`."""
    half = point.shape[-1] // 2
    return point[..., :half] + 1j * point[..., half:]
