r"""A lower bound on the error of all beamformers whose signals arrive in given phase sectors.

Within a sector of half-width :math:`\alpha < \pi/2` around the phase c, :math:`|z| \le q := \Re(e^{-jc} z) /
\cos\alpha`. For any :math:`\lambda \ge 0` with :math:`S = I - \sum_k \lambda_k a_k^H a_k \succ 0`,

.. math:: f(x) \ \ge\ \sum_k w_k^2 \frac{\lambda_k}{1 + \lambda_k} + \min_{x\ \text{in the cones}}\ x^H S x
          + \sum_{\text{closed}} (1 + \lambda_k) \Big(\frac{w_k}{1 + \lambda_k} - q_k\Big)_+^2

because :math:`\lambda t^2 + (w - t)_+^2` has its minimum at :math:`t = w / (1 + \lambda)`. With :math:`\lambda = 0`
this is a relaxation of the phases alone, with the multipliers of the lifted problem it is at least as tight
as that one; multiples :math:`\theta \lambda` in between are often tighter than both. Leaving a cone is
charged a finite price, which keeps the bound valid and the problem of one kind: least squares with
one-sided residuals, rows r, targets t and prices p. From any multipliers :math:`\mu \ge 0` of these rows follows

.. math:: \min_x\ x^T S x + \sum_i p_i (t_i - r_i x)_+^2 \ \ge\ \frac{(\mu^T t)^2}{\sum_i \mu_i^2 / p_i + v^T S^{-1} v},
          \qquad v = \sum_i \mu_i r_i

so the solver need not be trusted, nor run to its end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim.certificate import ROUNDING_MARGIN
from optim.hinge import real_rows
from optim.proof.nodes import CLOSED_WIDTH_RAD

LEVELS = np.array([0.0, 0.5, 0.8, 0.93, 0.99])
CONE_PRICE = 20.0
FULL_STEPS = 3
MAX_STEPS = 12
TOL = 0.1
STEP_SIZES = np.array([1.0, 0.6, 0.3, 0.15, 0.05])


@dataclass(frozen=True, eq=False)
class Hinges:
    """Least squares with one-sided residuals, one problem per row; `stop` is a value that is high enough."""

    matrix: Float[np.ndarray, "P d d"]
    inverse: Float[np.ndarray, "P d d"]
    rows: Float[np.ndarray, "P R d"]
    targets: Float[np.ndarray, "P R"]
    prices: Float[np.ndarray, "P R"]
    stop: Float[np.ndarray, "P"]

    def taken(self, chosen: np.ndarray) -> "Hinges":
        return Hinges(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


class SectorRelaxation:
    """What the bounds of all boxes of a batch of problems have in common."""

    def __init__(
        self,
        rows: Complex[np.ndarray, "B K n"],
        targets: Float[np.ndarray, "B K"],
        multipliers: Float[np.ndarray, "B K"],
    ) -> None:
        self.rows, self.targets = rows, targets
        self.multipliers = LEVELS[:, None] * multipliers[:, None]  # B L K
        weighted = np.sqrt(self.multipliers)[..., None] * rows[:, None]
        square = np.swapaxes(weighted.conj(), -1, -2) @ weighted
        complex_matrix = np.eye(rows.shape[-1]) - square
        self.matrix = _real_matrix(complex_matrix)
        self.inverse = _real_matrix(np.linalg.inv(complex_matrix))
        wide = 1 + self.multipliers
        self.base = (targets[:, None] ** 2 * self.multipliers / wide).sum(axis=-1)  # B L

    def hinges(
        self,
        problem: Int[np.ndarray, "P"],
        level: Int[np.ndarray, "P"],
        centre_rad: Float[np.ndarray, "P K"],
        width_rad: Float[np.ndarray, "P K"],
        stop: Float[np.ndarray, "P"],
    ) -> Hinges:
        closed = width_rad < CLOSED_WIDTH_RAD
        half = np.where(closed, width_rad, 0.0) / 2
        cos, sin = np.cos(half)[..., None], np.sin(half)[..., None]
        turned = np.exp(-1j * centre_rad)[..., None] * self.rows[problem]
        along, across = real_rows(turned), real_rows(-1j * turned)
        wide = 1 + self.multipliers[problem, level]
        rows = np.concatenate([along / cos, sin * along - cos * across, sin * along + cos * across], axis=1)
        wanted = np.where(closed, self.targets[problem] / wide, 0.0)
        targets = np.concatenate([wanted, np.zeros_like(wanted), np.zeros_like(wanted)], axis=1)
        price = np.where(closed, wide, 0.0)
        prices = np.concatenate([price, CONE_PRICE * price, CONE_PRICE * price], axis=1)
        return Hinges(
            self.matrix[problem, level], self.inverse[problem, level], rows, targets, prices,
            stop - self.base[problem, level],
        )

    def bound(self, problem, level, centre_rad, width_rad, point, stop):
        hinges = self.hinges(problem, level, centre_rad, width_rad, stop)
        value, point = solve_hinges(hinges, point)
        return (self.base[problem, level] + value) * (1 - ROUNDING_MARGIN), point


def solve_hinges(hinges: Hinges, point):
    """The best certified value of each problem, and the point it was found at."""
    best, best_point = np.full(len(point), -np.inf), point.copy()
    running = np.arange(len(point))
    for step in range(MAX_STEPS):
        fits = (hinges.rows @ point[..., None])[..., 0]
        missing = np.maximum(hinges.targets - fits, 0.0)
        pull = hinges.prices * missing
        value = _dual_value(hinges, pull)
        better = value > best[running]
        best[running[better]] = value[better]
        best_point[running[better]] = point[better]
        primal = ((point[:, None] @ hinges.matrix)[:, 0] * point).sum(-1) + (pull * missing).sum(-1)
        keep = (best[running] < hinges.stop) & (primal - best[running] > TOL * (np.abs(hinges.stop - primal)))
        if not keep.all():
            running, point, hinges = running[keep], point[keep], hinges.taken(keep)
            missing, fits = missing[keep], fits[keep]
        if not len(running) or step == MAX_STEPS - 1:
            break
        newton = _newton(hinges, missing > 0)
        if step < FULL_STEPS:
            point = newton
        else:
            fits_new = (hinges.rows @ newton[..., None])[..., 0]
            point = _line_search(hinges, point, newton, fits, fits_new)
    return best, best_point


def _newton(hinges, active):
    weights = np.where(active, hinges.prices, 0.0)
    transposed = np.swapaxes(hinges.rows * weights[..., None], -1, -2)
    return np.linalg.solve(hinges.matrix + transposed @ hinges.rows, transposed @ hinges.targets[..., None])[..., 0]


def _dual_value(hinges, multipliers):
    pull = (multipliers[:, None] @ hinges.rows)[:, 0]
    gain = (multipliers * hinges.targets).sum(axis=-1)
    priced = hinges.prices > 0
    cost = (multipliers**2 / np.where(priced, hinges.prices, 1.0)).sum(axis=-1)
    cost = cost + (pull * (hinges.inverse @ pull[..., None])[..., 0]).sum(axis=-1)
    return np.where(gain > 0, gain**2 / np.where(cost > 0, cost, 1.0), 0.0)


def _line_search(hinges, point, newton, fits, fits_new):
    move = newton - point
    trials = point[:, None] + STEP_SIZES[:, None] * move[:, None]
    trial_fits = fits[:, None] + STEP_SIZES[:, None] * (fits_new - fits)[:, None]
    missing = np.maximum(hinges.targets[:, None] - trial_fits, 0)
    error = (missing**2 * hinges.prices[:, None]).sum(-1) + ((trials @ hinges.matrix) * trials).sum(-1)
    best = error.argmin(-1)
    return trials[np.arange(len(best)), best]


def _real_matrix(matrix: Complex[np.ndarray, "*batch n n"]) -> Float[np.ndarray, "*batch d d"]:
    """The symmetric matrix of the same quadratic form on stacked real and imaginary parts."""
    upper = np.concatenate([matrix.real, -matrix.imag], axis=-1)
    lower = np.concatenate([matrix.imag, matrix.real], axis=-1)
    return np.concatenate([upper, lower], axis=-2)
