r"""How each device divides its energy between its two transmissions, exactly and for all devices at once.

Given both beamformers a device sees two gains and solves

.. math:: \min_{b_s, b_p \ge 0}\ \alpha_s (w_s - z_s b_s)_+^2 + \alpha_p \rho\, (w_p - z_p b_p)_+^2
          \quad\text{s.t.}\quad \alpha_s b_s^2 + \alpha_p b_p^2 \le \bar P,\ b^2 \le P^{\rm peak}

Phase shares cancel: one energy price :math:`\nu` gives :math:`b_s = w_s z_s / (z_s^2 + \nu)` and :math:`b_p
= \rho w_p z_p / (\rho z_p^2 + \nu)`, clipped at the peak.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# Newton on 1/|b(nu)| rises to the root from a lower bound, quadratically: after a relative rise this small
# the price is exact to its square.
NEWTON_STEPS = 10
LAST_RISE = 1e-7


@dataclass(frozen=True, eq=False)
class DeviceBudgets:
    """What each device wants and may spend; first axis: towards the base station, towards the edge server.

    Powers are relative to a device's reference power. `priorities` are 1 and ``rho = D_n / D``.
    """

    targets: Float[np.ndarray, "2 K"]
    priorities: Float[np.ndarray, "2 K"]
    shares: Float[np.ndarray, "2 1"]
    average: Float[np.ndarray, "K"]
    peak: Float[np.ndarray, "K"]


def available_power(
    budgets: DeviceBudgets, strengths: Float[np.ndarray, "*batch 2 K"]
) -> Float[np.ndarray, "*batch 2 K"]:
    """Power each transmission may use: the best split, and what it leaves over handed out as well.

    `strengths` are the gains behind the beamformers at reference power. Spare power cannot hurt: a device
    that inverts its channel ignores it, and the next, shorter beamformer can draw on it.
    """
    return _hand_out(budgets, best_split(budgets, strengths))


def best_split(
    budgets: DeviceBudgets, strengths: Float[np.ndarray, "*batch 2 K"]
) -> Float[np.ndarray, "*batch 2 K"]:
    """The smallest powers that minimise each device's share of Pi."""
    heard = strengths > 0
    inverting = np.where(heard, budgets.targets / np.where(heard, strengths, 1.0), 0.0) ** 2
    capped = np.minimum(inverting, budgets.peak)
    affordable = (budgets.shares * capped).sum(axis=-2, keepdims=True) <= budgets.average
    priced = _priced_powers(budgets, np.where(heard, strengths, 0.0))
    # A phase held at its peak leaves a known rest to the other one.
    rest = (budgets.average - budgets.shares * budgets.peak)[..., ::-1, :] / _nonzero(budgets.shares)
    beside_peak = np.minimum(inverting, np.maximum(rest, 0.0))
    over = priced > budgets.peak
    coupled = np.where(over, budgets.peak, np.where(over[..., ::-1, :], beside_peak, priced))
    return np.where(affordable, capped, coupled)


def _priced_powers(
    budgets: DeviceBudgets, strengths: Float[np.ndarray, "*batch 2 K"]
) -> Float[np.ndarray, "*batch 2 K"]:
    """Powers at the energy price that spends the average power exactly, peaks ignored.

    The two energies are ``(c_i / (e_i + nu))^2`` with ``e_i = rho_i z_i^2`` and ``c_i = sqrt(alpha_i) w_i
    rho_i z_i``.
    """
    scale = np.sqrt(budgets.shares) * budgets.targets * budgets.priorities
    wanted = scale * strengths
    quality = np.where(wanted > 0, budgets.priorities * strengths**2, 1.0)
    limit = np.sqrt(np.where(budgets.average > 0, budgets.average, 1.0))
    # Either transmission alone stays within the budget at the true price: a lower bound to start from.
    alone = wanted / limit - quality
    price = np.maximum(np.maximum(alone[..., 0, :], alone[..., 1, :]), 0.0)
    (c_s, c_p), (e_s, e_p) = (np.moveaxis(pair, -2, 0) for pair in (wanted**2, quality))
    for _ in range(NEWTON_STEPS):
        inverse_s, inverse_p = 1 / (e_s + price), 1 / (e_p + price)
        energy_s, energy_p = c_s * inverse_s**2, c_p * inverse_p**2
        energy = energy_s + energy_p
        slope = energy_s * inverse_s + energy_p * inverse_p
        rise = (np.sqrt(energy) / limit - 1) * energy / np.where(slope > 0, slope, 1.0)
        price = np.maximum(price + rise, 0.0)
        if (rise <= LAST_RISE * price).all():
            break
    spent = (wanted / (quality + price[..., None, :])) ** 2
    energy = spent[..., 0, :] + spent[..., 1, :]
    fit = np.minimum(limit**2 / np.where(energy > 0, energy, 1.0), 1.0)
    return spent * fit[..., None, :] / _nonzero(budgets.shares)


def _hand_out(
    budgets: DeviceBudgets, power: Float[np.ndarray, "*batch 2 K"]
) -> Float[np.ndarray, "*batch 2 K"]:
    """Raise both powers by one factor until the energy or a peak binds, then fill up what is left."""
    energy = (budgets.shares * power).sum(axis=-2, keepdims=True)
    spending = energy > 0
    factor = np.maximum(budgets.average / np.where(spending, energy, 1.0), 1.0)
    power = np.where(
        spending, np.minimum(power * factor, budgets.peak), np.minimum(budgets.average, budgets.peak)
    )
    for phase in (0, 1):
        left = np.maximum(budgets.average - (budgets.shares * power).sum(axis=-2), 0.0)
        filled = power[..., phase, :] + left / _nonzero(budgets.shares[phase])
        power[..., phase, :] = np.minimum(filled, budgets.peak)
    return power


def _nonzero(shares: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Shares to divide by; a phase of no length costs no energy, and its power does not matter."""
    return np.where(shares > 0, shares, 1.0)
