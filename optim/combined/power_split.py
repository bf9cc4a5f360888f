r"""How each device divides its energy between its transmissions, exactly and for all devices at once.

Given the beamformers a device sees one gain :math:`z_j` per phase, leaks :math:`q_j` into other receivers and
solves

.. math:: \min_{b \ge 0}\ \sum_j \alpha_j \big[ \rho_j (w_j - z_j b_j)_+^2 + q_j b_j^2 \big]
          \quad\text{s.t.}\quad \sum_j \alpha_j b_j^2 \le \bar P,\ b_j^2 \le P^{\rm peak}

Phase shares cancel: one energy price :math:`\nu` gives :math:`b_j = \rho_j w_j z_j / (\rho_j z_j^2 + q_j +
\nu)`, clipped at the peak. A phase that is clipped at some price stays so at every lower one, so the price is
found by Newton's method on the others, and again without those that it puts above their peak.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

# Newton on 1/|b(nu)| rises to the root from a lower bound, quadratically: after a relative rise this small
# the price is exact to its square.
NEWTON_STEPS = 10
LAST_RISE = 1e-7

PerPhase = Float[np.ndarray, "*batch J K"]


@dataclass(frozen=True, eq=False)
class DeviceBudgets:
    """What each device wants and may spend in each of `J` phases.

    With one block the phases are: towards the base station, towards the edge server. Powers are relative to a
    device's reference power. `priorities` are 1 and ``rho = D_n / D``.
    """

    targets: Float[np.ndarray, "J K"]
    priorities: Float[np.ndarray, "J K"]
    shares: Float[np.ndarray, "J 1"]
    average: Float[np.ndarray, "K"]
    peak: Float[np.ndarray, "K"]


def available_power(budgets: DeviceBudgets, strengths: PerPhase) -> PerPhase:
    """Power each transmission may use: the best split, and what it leaves over handed out as well.

    `strengths` are the gains behind the beamformers at reference power. Spare power cannot hurt: a device
    that inverts its channel ignores it, and the next, shorter beamformer can draw on it.
    """
    return _hand_out(budgets, best_split(budgets, strengths))


def best_split(budgets: DeviceBudgets, strengths: PerPhase, leaks: PerPhase | None = None) -> PerPhase:
    """The smallest powers that minimise each device's share of Pi; `leaks` are harm per unit of power."""
    quality = budgets.priorities * strengths**2
    if leaks is not None:
        quality = quality + leaks
    wanted = budgets.targets * budgets.priorities * strengths
    heard = wanted > 0
    quality = np.where(heard, quality, 1.0)
    inverting = (np.where(heard, wanted, 0.0) / quality) ** 2
    capped = np.minimum(inverting, budgets.peak)
    short = (budgets.shares * capped).sum(axis=-2) > budgets.average
    if not short.any():
        return capped
    scale = np.sqrt(budgets.shares) * np.where(heard, wanted, 0.0)
    return np.where(short[..., None, :], _coupled(budgets, scale, quality), capped)


def _coupled(budgets: DeviceBudgets, wanted: PerPhase, quality: PerPhase) -> PerPhase:
    """Powers where energy is short: priced, except in the phases held at their peak.

    The energies are ``(c_j / (e_j + nu))^2`` with ``e_j = rho_j z_j^2 + q_j`` and ``c_j = sqrt(alpha_j) rho_j
    w_j z_j``.
    """
    held = np.zeros(wanted.shape, dtype=bool)
    while True:
        power = _priced_powers(budgets, wanted, quality, held)
        over = ~held & (power > budgets.peak)
        if not over.any():
            return power
        held = held | over


def _priced_powers(
    budgets: DeviceBudgets, wanted: PerPhase, quality: PerPhase, held: Bool[np.ndarray, "*batch J K"]
) -> PerPhase:
    """Powers at the energy price that spends exactly what the held phases leave."""
    spent_held = (budgets.shares * np.where(held, budgets.peak, 0.0)).sum(axis=-2)
    left = np.maximum(budgets.average - spent_held, 0.0)
    free = np.where(held, 0.0, wanted)
    # From below: the price of each phase alone, and of all phases if all had the best quality.
    limit = np.sqrt(left)
    positive = np.where(limit > 0, limit, 1.0)
    squares = free**2
    alone = (free / positive[..., None, :] - quality).max(axis=-2)
    together = np.sqrt(squares.sum(axis=-2)) / positive - quality.max(axis=-2)
    price = np.maximum(np.maximum(alone, together), 0.0)
    for _ in range(NEWTON_STEPS):
        inverse = 1 / (quality + price[..., None, :])
        energies = squares * inverse**2
        energy, slope = energies.sum(axis=-2), (energies * inverse).sum(axis=-2)
        rise = (np.sqrt(energy) / positive - 1) * energy / np.where(slope > 0, slope, 1.0)
        price = np.maximum(price + rise, 0.0)
        if (rise <= LAST_RISE * price).all():
            break
    energies = squares / (quality + price[..., None, :]) ** 2
    energy = energies.sum(axis=-2)
    fit = np.minimum(left / np.where(energy > 0, energy, 1.0), 1.0)
    return np.where(held, budgets.peak, energies * fit[..., None, :] / nonzero(budgets.shares))


def _hand_out(budgets: DeviceBudgets, power: PerPhase) -> PerPhase:
    """Raise all powers by one factor until the energy or a peak binds, then fill up what is left."""
    energy = (budgets.shares * power).sum(axis=-2, keepdims=True)
    spending = energy > 0
    factor = np.maximum(budgets.average / np.where(spending, energy, 1.0), 1.0)
    power = np.where(
        spending, np.minimum(power * factor, budgets.peak), np.minimum(budgets.average, budgets.peak)
    )
    for phase in range(len(budgets.shares)):
        left = np.maximum(budgets.average - (budgets.shares * power).sum(axis=-2), 0.0)
        filled = power[..., phase, :] + left / nonzero(budgets.shares[phase])
        power[..., phase, :] = np.minimum(filled, budgets.peak)
    return power


def nonzero(shares: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Shares to divide by; a phase of no length costs no energy, and its power does not matter."""
    return np.where(shares > 0, shares, 1.0)
