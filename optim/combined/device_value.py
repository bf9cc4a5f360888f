r"""What multipliers are worth to the devices, with gradient and curvature: the dual without its cones.

With :math:`g = \sum_k g_k` of :mod:`optim.combined.water_filling` and the powers p that attain it,

.. math:: \frac{\partial g}{\partial \mu_j} = \frac{W_j w_j^2 p_j}{(p_j + \mu_j)^2}

by the envelope theorem. Where the energy binds, phases strictly between 0 and their peak exchange power, so
the Hessian has one J x J block per device: diagonal plus rank one on those phases. It jumps where a phase
reaches a limit; Newton's method does not mind.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optim.combined.power_split import DeviceBudgets
from optim.combined.water_filling import energy_price, priced_power

PerPhase = Float[np.ndarray, "J K"]


@dataclass(frozen=True, eq=False)
class DeviceValue:
    """The value, its gradient, and minus its Hessian as ``diag(curvature) - outer(exchange, exchange)``."""

    value: float
    gradient: PerPhase
    curvature: PerPhase
    exchange: PerPhase


def device_value(budgets: DeviceBudgets, multipliers: PerPhase) -> DeviceValue:
    """Value and derivatives; transmissions without a multiplier count for nothing."""
    price = energy_price(budgets, multipliers[None])
    power = priced_power(budgets, multipliers[None], price)[0]
    weighted = budgets.shares * budgets.priorities * budgets.targets**2
    used = (weighted > 0) & (multipliers > 0)
    mu = np.where(used, multipliers, 1.0)
    total = power + mu
    free = used & (power > 0) & (power < budgets.peak) & (price[0] > 0)
    curvature = np.where(free, weighted / (2 * mu * total), 2 * weighted * power / total**3)
    # d^2/dp^2 = 2 W w^2 mu / (p + mu)^3 and d^2/dp dmu = W w^2 (mu - p) / (p + mu)^3.
    slack = np.where(free, budgets.shares**2 * total**3 / np.where(free, 2 * weighted * mu, 1.0), 0.0)
    shift = np.where(free, budgets.shares * (mu - power) / (2 * mu), 0.0)
    sum_slack = slack.sum(axis=0)
    exchange = shift / np.sqrt(np.where(sum_slack > 0, sum_slack, 1.0))
    return DeviceValue(
        value=float((weighted * mu / total)[used].sum()),
        gradient=np.where(used, weighted * power / total**2, 0.0),
        curvature=np.where(used, curvature, 0.0),
        exchange=exchange,
    )
