r"""The dual of a robust problem at a given level of uncertainty, and a barrier method for its multipliers.

If every device's covariance is at least :math:`s_k R`, then :math:`v_k \ge s_k \tau` with the common level
:math:`\tau = x^H R x`. At a fixed spread :math:`v` a device's error is convex in what arrives, :math:`u =
\|A_k x\|^2`, with the explicit conjugate

.. math:: \psi_k(\lambda, v) = \min_{u \ge 0} \varphi_k(u, v) + \lambda u = \begin{cases}
          w_k^2 \frac{\lambda}{1 + \lambda} + v & v \le w_k^2 \lambda / (1 + \lambda)^2 \\
          2 w_k \sqrt{v \lambda} - v \lambda & \text{otherwise, while } v \lambda \le w_k^2 \\
          w_k^2 & \text{beyond} \end{cases}

so that every design at level :math:`\tau` has

.. math:: f(x) \ge \sum_k \psi_k(\lambda_k, s_k \tau) + \mu \tau \quad\text{for all}\quad
          \lambda \ge 0,\ \mu \in \mathbb R,\ \sum_k \lambda_k A_k^H A_k + \mu R \preceq I
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact

from optim.linear import solve_ridge

NEWTON_STEPS = 80
BARRIER_FALL = 0.2
CENTRED = 0.5  # Newton decrement below which the barrier is lowered
TO_THE_EDGE = 0.9


@dataclass(frozen=True, eq=False)
class LevelDual:
    """A flat batch: rows per device antenna, targets, least spreads ``s_k`` per level, and the metric R."""

    rows: Complex[np.ndarray, "B K T n"]
    targets: Float[np.ndarray, "B K"]
    spread: Float[np.ndarray, "B K"]
    metric: Complex[np.ndarray, "B n n"]

    @cached_property
    def wanted(self) -> Bool[np.ndarray, "B K"]:
        """Devices with a target that can be heard; the multipliers of the others are 0."""
        return np.asarray((self.targets > 0) & (self.rows != 0).any(axis=(-2, -1)))

    def repeated(self, times: int) -> "LevelDual":
        """Every problem `times` times, copies of one problem side by side."""
        fields = (self.rows, self.targets, self.spread, self.metric)
        return LevelDual(*(np.repeat(field, times, axis=0) for field in fields))


def conjugate(
    multipliers: Float[np.ndarray, "*#c K"],
    targets: Float[np.ndarray, "*#c K"],
    spread: Float[np.ndarray, "*#c K"],
) -> Float[np.ndarray, "..."]:
    """``psi`` of every device."""
    share = targets * multipliers / (1 + multipliers)
    full = targets * share >= spread * (1 + multipliers)
    root = np.minimum(np.sqrt(spread * multipliers), targets)
    return np.where(full, targets * share + spread, (2 * targets - root) * root)


def conjugate_slopes(
    multipliers: Float[np.ndarray, "*#c K"],
    targets: Float[np.ndarray, "*#c K"],
    spread: Float[np.ndarray, "*#c K"],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """First derivative of ``psi`` in the multiplier, which is u, and minus its second."""
    inverse = 1 / (1 + multipliers)
    full = targets**2 * multipliers * inverse**2 >= spread
    root = np.sqrt(np.where(full, 0.0, spread * multipliers))
    inside = root < targets
    ratio = targets * root / np.where(multipliers > 0, multipliers, 1.0)
    power = np.where(full, (targets * inverse) ** 2, np.where(inside, ratio - spread, 0.0))
    bent = np.where(inside, 0.5 * ratio / np.where(multipliers > 0, multipliers, 1.0), 0.0)
    return power, np.where(full, 2 * targets**2 * inverse**3, bent)


def barrier_multipliers(
    dual: LevelDual, level: Float[np.ndarray, "B"], tolerance: float
) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B"]]:
    """Nearly the best multipliers at a level: Newton steps along the central path, for a whole batch."""
    wanted = dual.wanted
    count = dual.rows.shape[-1] + wanted.sum(axis=-1)
    device, mu = _first_multipliers(dual, wanted), np.zeros(len(level))
    value = _value(dual, device, mu, level)
    softness = value / count
    for _ in range(NEWTON_STEPS):
        step, step_mu, decrement, reach = _newton_step(dual, device, mu, level, softness)
        length = np.minimum(1.0, TO_THE_EDGE * reach)
        device = np.where(wanted, device + length[:, None] * step, 0.0)
        mu = mu + length * step_mu
        value = _value(dual, device, mu, level)
        done = softness * count <= tolerance * value
        softness = np.where((decrement < CENTRED) & ~done, BARRIER_FALL * softness, softness)
        if (done & (decrement < CENTRED)).all():
            break
    return device, mu


def _value(
    dual: LevelDual,
    device: Float[np.ndarray, "B K"],
    mu: Float[np.ndarray, "B"],
    level: Float[np.ndarray, "B"],
) -> Float[np.ndarray, "B"]:
    value = conjugate(device, dual.targets, dual.spread * level[:, None])
    return np.maximum(value.sum(axis=-1) + mu * level, np.finfo(np.float64).tiny)


def _first_multipliers(dual: LevelDual, wanted: Bool[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
    """Matched multipliers, half as large as is feasible."""
    strength = (np.abs(dual.rows) ** 2).sum(axis=(-2, -1))
    matched = np.where(wanted, 1 / np.where(wanted, strength, 1.0), 0.0)
    matrix = weighted_gram(dual.rows, matched)
    return 0.5 * matched / np.maximum(np.linalg.eigvalsh(matrix)[..., -1], 0.5)[:, None]


def weighted_gram(
    rows: Complex[np.ndarray, "*#b K T n"], weights: Float[np.ndarray, "*#b K"]
) -> Inexact[np.ndarray, "..."]:
    """``sum_k lambda_k A_k^H A_k``."""
    weighted = np.sqrt(weights)[..., None, None] * rows
    stacked = weighted.reshape(*weighted.shape[:-3], -1, weighted.shape[-1])
    return np.swapaxes(stacked.conj(), -1, -2) @ stacked


@dataclass(frozen=True, eq=False)
class _Geometry:
    """A point seen through its slack W: rows ``sqrt(lambda_k) A_k W^-1/2`` and ``W^-1/2 R W^-1/2``."""

    rows: Complex[np.ndarray, "B K T n"]
    metric: Complex[np.ndarray, "B n n"]

    @property
    def stacked(self) -> Complex[np.ndarray, "B KT n"]:
        return self.rows.reshape(len(self.rows), -1, self.rows.shape[-1])


def _geometry(dual: LevelDual, device: Float[np.ndarray, "B K"], mu: Float[np.ndarray, "B"]) -> _Geometry:
    size = dual.rows.shape[-1]
    gram = weighted_gram(dual.rows, device)
    spectrum, modes = np.linalg.eigh(np.eye(size) - gram - mu[:, None, None] * dual.metric)
    # Slack below the rounding of its terms is not known to be positive.
    rounding = np.finfo(np.float64).eps * (size + np.trace(gram, axis1=-2, axis2=-1).real + size * np.abs(mu))
    whitener = modes / np.sqrt(np.maximum(spectrum, rounding[:, None]))[:, None, :]
    rows = np.sqrt(device)[..., None, None] * (dual.rows @ whitener[:, None])
    return _Geometry(rows, np.swapaxes(whitener.conj(), -1, -2) @ dual.metric @ whitener)


def _newton_step(
    dual: LevelDual,
    device: Float[np.ndarray, "B K"],
    mu: Float[np.ndarray, "B"],
    level: Float[np.ndarray, "B"],
    softness: Float[np.ndarray, "B"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Changes of both kinds of multipliers, the Newton decrement, and how far the feasible set reaches."""
    seen = _geometry(dual, device, mu)
    power, bend = conjugate_slopes(device, dual.targets, dual.spread * level[:, None])
    pull = device * power / softness[:, None]
    felt = (np.abs(seen.rows) ** 2).sum(axis=(-2, -1))
    slope = np.column_stack(
        [
            np.where(dual.wanted, pull - felt + 1, 0.0),
            level / softness - np.trace(seen.metric, axis1=-2, axis2=-1).real,
        ]
    )
    system = _hessian(seen, np.where(dual.wanted, device**2 * bend / softness[:, None], 0.0) + 1)
    # Equilibrated: multipliers of one problem may span many decades.
    diagonal = np.sqrt(np.diagonal(system, axis1=-2, axis2=-1))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    system = system / (diagonal[:, :, None] * diagonal[:, None, :])
    step = solve_ridge(system, (slope / diagonal)[..., None])[..., 0] / diagonal
    decrement = np.sqrt(np.maximum((step * slope).sum(axis=-1), 0.0))
    return step[:, :-1] * device, step[:, -1], decrement, _reach(seen, step[:, :-1], step[:, -1])


def _hessian(seen: _Geometry, diagonal: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K1 K1"]:
    """Second derivatives of the barrier in relative multipliers and the level's, the diagonal added."""
    batch, num_devices, antennas, _ = seen.rows.shape
    cross = np.abs(seen.stacked @ np.swapaxes(seen.stacked.conj(), -1, -2)) ** 2
    blocks = cross.reshape(batch, num_devices, antennas, num_devices, antennas).sum(axis=(2, 4))
    system = np.zeros((batch, num_devices + 1, num_devices + 1))
    system[:, :-1, :-1] = blocks + diagonal[..., None] * np.eye(num_devices)
    mixed = (seen.rows @ seen.metric[:, None] * seen.rows.conj()).sum(axis=(-2, -1)).real
    system[:, -1, :-1] = system[:, :-1, -1] = mixed
    system[:, -1, -1] = (np.abs(seen.metric) ** 2).sum(axis=(-2, -1))
    return system


def _reach(
    seen: _Geometry, relative: Float[np.ndarray, "B K"], step_mu: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B"]:
    """The length of a step at which a multiplier or the slack would reach zero."""
    changed = (relative[..., None, None] * seen.rows).reshape(seen.stacked.shape)
    change = np.swapaxes(seen.stacked.conj(), -1, -2) @ changed
    growth = np.linalg.eigvalsh(change + step_mu[:, None, None] * seen.metric)[..., -1]
    fastest = np.maximum(growth, (-relative).max(axis=-1))
    return np.asarray(1 / np.maximum(fastest, np.finfo(np.float64).tiny))
