r"""What given multipliers are worth to a device: the energy price of the dual, in closed form.

Per device the dual of the lifted problem leaves

.. math:: g_k(\mu_k) = \min_{p}\ \sum_j W_j w_j^2 \frac{\mu_j}{p_j + \mu_j}
          \quad\text{s.t.}\quad \sum_j \alpha_j p_j \le \bar P,\ 0 \le p_j \le P^{\rm peak}

solved by :math:`p_j = [w_j \sqrt{\rho_j \mu_j / \nu} - \mu_j]_0^{\rm peak}` at one price :math:`\nu`. In
:math:`u = 1/\sqrt\nu` the energy is piecewise linear with two kinks per phase, which gives the price at once.
"""

import numpy as np
from jaxtyping import Float

from optim.combined.power_split import DeviceBudgets

PerPhase = Float[np.ndarray, "C J K"]
PerDevice = Float[np.ndarray, "C 1 K"]


def energy_price(budgets: DeviceBudgets, multipliers: PerPhase) -> PerDevice:
    """The price at which a device spends its average power; 0 where its peaks bind first."""
    slope = budgets.targets * np.sqrt(budgets.priorities * multipliers)
    active = slope > 0
    safe = np.where(active, slope, 1.0)
    kinks = np.concatenate([multipliers / safe, (multipliers + budgets.peak) / safe], axis=-2)
    kinks = np.sort(np.where(np.concatenate([active, active], axis=-2), kinks, 0.0), axis=-2)  # C 2J K
    power = slope[..., None, :, :] * kinks[..., :, None, :] - multipliers[..., None, :, :]  # C 2J J K
    power = np.minimum(np.maximum(power, 0.0), budgets.peak)
    energy = (budgets.shares * np.where(active[..., None, :, :], power, 0.0)).sum(axis=-2)  # C 2J K
    after = (energy <= budgets.average).sum(axis=-2, keepdims=True)
    after = np.minimum(np.maximum(after, 1), kinks.shape[-2] - 1)
    low, high = (np.take_along_axis(kinks, after - i, axis=-2) for i in (1, 0))
    energy_low, energy_high = (np.take_along_axis(energy, after - i, axis=-2) for i in (1, 0))
    rising = energy_high > energy_low
    fraction = (budgets.average - energy_low) / np.where(rising, energy_high - energy_low, 1.0)
    fraction = np.where(rising, np.minimum(np.maximum(fraction, 0.0), 1.0), 0.0)
    inverse_root = low + fraction * (high - low)
    binding = (energy[..., -1:, :] > budgets.average) & (inverse_root > 0)
    return np.where(binding, 1 / np.where(binding, inverse_root, 1.0) ** 2, 0.0)


def priced_power(budgets: DeviceBudgets, multipliers: PerPhase, price: PerDevice) -> PerPhase:
    """The powers that minimise each device's Lagrangian."""
    free = price <= 0
    slope = budgets.targets * np.sqrt(budgets.priorities * multipliers)
    wanted = slope / np.sqrt(np.where(free, 1.0, price)) - multipliers
    return np.where(free, budgets.peak, np.minimum(np.maximum(wanted, 0.0), budgets.peak))
