r"""A lower bound on the error of all beamformers whose signals arrive in given phase sectors.

In a sector of half-width :math:`\alpha < \pi / 2` around the phase c, :math:`|z| \le q = \Re(e^{-jc} z) /
\cos \alpha`. For any :math:`\lambda \ge 0` with :math:`S = I - \sum_k \lambda_k a_k^H a_k \succ 0`,

.. math:: f(x) \ \ge\ \sum_k w_k^2 \frac{\lambda_k}{1 + \lambda_k} + x^H S x
          + \sum_{k:\ \alpha_k < \pi / 2} (1 + \lambda_k) \Big(\frac{w_k}{1 + \lambda_k} - q_k\Big)_+^2

because :math:`\lambda t^2 + (w - t)_+^2` is least at :math:`t = w / (1 + \lambda)` and falls before. For
:math:`\lambda = 0` it relaxes phases alone, for the multipliers of the lifted problem it is no looser than
that bound; multiples in between, `LEVELS`, are often tighter than both. The minimum over x is taken inside
the cones: leaving one, :math:`\Re(e^{-jc} z) \sin\alpha \pm \Im(e^{-jc} z) \cos\alpha < 0`, has a price.
Any finite price keeps the bound valid, and the problem one of :mod:`optim.proof.priced_hinge`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Complex, Float, Int

from optim.certificate import ROUNDING_MARGIN, spectral_radius
from optim.hinge import real_rows
from optim.normal_form import adjoint
from optim.proof.nodes import Nodes
from optim.proof.priced_hinge import PricedHinges, certified_minima

# Multiples of the lifted problem's multipliers that are tried.
LEVELS = np.array([0.0, 0.5, 0.8, 0.93])
# Price of leaving a cone, relative to that of falling short.
CONE_PRICE = 20.0


class SectorRelaxation:
    """What the boxes of a batch of problems have in common: rows, targets and levels of multipliers."""

    def __init__(
        self,
        rows: Complex[np.ndarray, "B K n"],
        targets: Float[np.ndarray, "B K"],
        multipliers: Float[np.ndarray, "B K"],
    ) -> None:
        feasible = multipliers / spectral_radius(rows, multipliers)[:, None]
        self.rows, self.targets = rows, targets
        self.root_share = targets**2 * feasible / (1 + feasible)
        levelled = LEVELS[:, None] * feasible[:, None]  # B L K
        self._widening = 1 + levelled
        self._floor = (targets[:, None] ** 2 * levelled / self._widening).sum(axis=-1)
        weighted = np.sqrt(levelled)[..., None] * rows[:, None]
        matrix = np.eye(rows.shape[-1]) - adjoint(weighted) @ weighted
        self._matrix, self._inverse = _real_matrix(matrix), _real_matrix(np.linalg.inv(matrix))

    def bound(
        self, nodes: Nodes, enough: Float[np.ndarray, "M"]
    ) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M d"]]:
        """Certified bound of each box at its level, and the minimiser behind it, searched from its point.

        Bounds above `enough` are not driven any higher.
        """
        floor = self._floor[nodes.problem, nodes.level]
        value, point = certified_minima(self._hinges(nodes, enough - floor), nodes.point)
        return (floor + value) * (1 - ROUNDING_MARGIN), point

    def _hinges(self, nodes: Nodes, enough: Float[np.ndarray, "M"]) -> PricedHinges:
        closed, (problem, level) = nodes.closed, (nodes.problem, nodes.level)
        half_rad = np.where(closed, nodes.width_rad / 2, 0.0)[..., None]
        turned = np.exp(-1j * nodes.centre_rad)[..., None] * self.rows[problem]
        along, across = real_rows(turned), real_rows(-1j * turned)
        tilted, flattened = np.sin(half_rad) * along, np.cos(half_rad) * across
        widening = self._widening[problem, level]
        wanted = self.targets[problem] / widening
        price = np.where(closed, widening, 0.0)
        return PricedHinges(
            matrix=self._matrix[problem, level],
            inverse=self._inverse[problem, level],
            rows=np.concatenate([along / np.cos(half_rad), tilted - flattened, tilted + flattened], axis=1),
            targets=np.concatenate([wanted, np.zeros_like(wanted), np.zeros_like(wanted)], axis=1),
            prices=np.concatenate([price, CONE_PRICE * price, CONE_PRICE * price], axis=1),
            enough=enough,
        )

    def tightest(self, nodes: Nodes, enough: Float[np.ndarray, "M"]) -> Nodes:
        """The boxes with their best bounds: at the parent's level, and if need be at the others.

        A bound never falls below the parent's, which holds for every part of its box.
        """
        inherited = nodes.bound
        nodes = replace(nodes, bound=np.full(len(nodes), -np.inf))
        nodes = self._raised(nodes, np.arange(len(nodes)), nodes.level, enough)
        todo = np.repeat(np.flatnonzero(nodes.bound < enough), len(LEVELS))
        level = np.tile(np.arange(len(LEVELS)), len(todo) // len(LEVELS))
        other = level != nodes.level[todo]
        nodes = self._raised(nodes, todo[other], level[other], enough)
        return replace(nodes, bound=np.maximum(nodes.bound, inherited))

    def _raised(
        self,
        nodes: Nodes,
        place: Int[np.ndarray, "P"],
        level: Int[np.ndarray, "P"],
        enough: Float[np.ndarray, "M"],
    ) -> Nodes:
        """The boxes after trying `level` at the boxes at `place`."""
        trials = replace(nodes.taken(place), level=level)
        value, point = self.bound(trials, enough[place])
        rising = np.argsort(value, kind="stable")  # of several trials of a box the best is written last
        rising = rising[value[rising] > nodes.bound[place[rising]]]
        bounds, levels, points = nodes.bound.copy(), nodes.level.copy(), nodes.point.copy()
        winner = place[rising]
        bounds[winner], levels[winner], points[winner] = value[rising], level[rising], point[rising]
        return replace(nodes, bound=bounds, level=levels, point=points)


def _real_matrix(matrix: Complex[np.ndarray, "*batch n n"]) -> Float[np.ndarray, "*batch d d"]:
    """The symmetric matrix of the same quadratic form on stacked real and imaginary parts."""
    upper = np.concatenate([matrix.real, -matrix.imag], axis=-1)
    lower = np.concatenate([matrix.imag, matrix.real], axis=-1)
    return np.concatenate([upper, lower], axis=-2)
