r"""A certified lower bound with one energy budget per device, from any multipliers.

Per receiver the lifted problem has the dual constraint :math:`\sum_k \mu_{ik} a_{ik}^H a_{ik} \preceq I`, and
per device there remains a convex problem in its powers, whose own dual gives for every energy price
:math:`\nu \ge 0`

.. math:: \Pi \ge \sum_k \Big\{ \sum_i \Big[ W_i w_{ik}^2 \frac{\mu_{ik}}{p_{ik} + \mu_{ik}}
          + \nu_k \alpha_i p_{ik} \Big] - \nu_k \bar P_k \Big\}, \qquad
          p_{ik} = \Big[ w_{ik} \sqrt{\rho_i \mu_{ik} / \nu_k} - \mu_{ik} \Big]_0^{P_k^{\rm peak}}

(powers relative to the reference power in the rows). Being off the best price by rounding costs tightness,
never validity. Interference between tasks is never negative: dropping it keeps the bound valid, but far.
"""

import numpy as np
from jaxtyping import Float

from optim.certificate import ROUNDING_MARGIN, spectral_radius
from optim.combined.form import Beams, CombinedForm
from optim.combined.water_filling import energy_price, priced_power


def combined_dual_value(
    form: CombinedForm, multipliers: Float[np.ndarray, "C J K"]
) -> Float[np.ndarray, "C"]:
    """Certified bound, in the problem's own units, for each of `C` sets of multipliers.

    Each receiver's multipliers are scaled to the edge of its feasible set. Errors are never negative, so
    neither is the bound: where the prices outweigh the rest, 0 is returned.
    """
    usable = np.where(form.reachable & (form.budgets.targets > 0) & (multipliers > 0), multipliers, 0.0)
    feasible = usable / _radii(form, usable)
    price = energy_price(form.budgets, feasible)
    power = priced_power(form.budgets, feasible, price)
    weighted = form.device_weights * form.budgets.targets**2
    positive = feasible > 0
    lost = np.where(positive, weighted * feasible / np.where(positive, power + feasible, 1.0), 0.0)
    lost = np.where(form.reachable, lost, weighted)
    spent = price * np.where(positive, form.budgets.shares * power, 0.0)
    budget = price * form.budgets.average
    terms = np.concatenate([lost + spent, -budget], axis=-2)
    value = terms.sum(axis=(-2, -1)) - ROUNDING_MARGIN * np.abs(terms).sum(axis=(-2, -1))
    return np.maximum(value, 0.0) * form.scale


def stationary_multipliers(
    form: CombinedForm, beams: Beams, power: Float[np.ndarray, "J K"]
) -> Float[np.ndarray, "J K"]:
    """The multipliers a stationary point stands for: ``mu = p (w / (sqrt(p) z) - 1)_+``; 0 where z is."""
    received = np.sqrt(power) * form.strengths(beams)
    heard = received > 0
    ratio = form.budgets.targets / np.where(heard, received, 1.0)
    return np.where(heard, power * np.maximum(ratio - 1, 0.0), 0.0)


def closed_form_multipliers(form: CombinedForm) -> Float[np.ndarray, "2 J K"]:
    """Uniform multipliers and matched ones, ``1 / |a_k|^2``."""
    strengths = np.stack([(np.abs(s.rows) ** 2).sum(axis=-1)[s.receiver_of, s.slot_of] for s in form.stacks])
    matched = np.where(strengths > 0, 1 / np.where(strengths > 0, strengths, 1.0), 0.0)
    return np.stack([np.ones_like(matched), matched])


def _radii(form: CombinedForm, multipliers: Float[np.ndarray, "C J K"]) -> Float[np.ndarray, "C J K"]:
    """Spectral radius at the receiver of each transmission."""
    radii = np.empty_like(multipliers)
    for phase, stack in enumerate(form.stacks):
        padded = np.zeros((len(multipliers), *stack.targets.shape))
        padded[:, stack.receiver_of, stack.slot_of] = multipliers[:, phase]
        radii[:, phase] = spectral_radius(stack.rows, padded)[:, stack.receiver_of]
    return radii
