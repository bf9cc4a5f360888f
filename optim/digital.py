r"""What digital transmission of the same payloads would reach: numbers to compare with, not designs.

All references use :math:`s_k = P_k \|h_k\|^2 / \sigma^2` of a known channel and the error per entry of the
weighted sum of payloads of unit variance. No single one of them is *the* digital optimum: `ideal_digital`
allows orthogonal access only, which several receive antennas make a weak opponent; `ideal_digital_mac` is
the fair one.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from optim.channel_uses import USES
from optim.combined.mse import AnyProblem
from optim.multiple_access import best_rates, capacities
from optim.problem import AirCompProblem
from optim.reference import DigitalReference, links, one_receiver, require_few, shaped, snr_of
from optim.shares import distortion_level, equal_level_shares

# Mean square of the rounding error, in squared steps.
ROUNDING = {"nearest": 1 / 12, "subtractive-dither": 1 / 12, "stochastic": 1 / 6}


def error_free(problem: AirCompProblem | AnyProblem) -> DigitalReference:
    """The sum itself."""
    batch = problem.batch_shape if isinstance(problem, AirCompProblem) else ()
    return DigitalReference(np.zeros(batch) if batch else 0.0, "the sum arrives without error")


def digital_oma(
    problem: AirCompProblem | AnyProblem,
    bits: int = 8,
    clip: float = 4.0,
    rounding: str = "nearest",
    access: str = "tdma",
) -> DigitalReference:
    r"""Numbers of q bits, sent one device after the other or side by side, and added by the receiver.

    .. math:: \mathrm{MSE} = \sum_k \omega_k^2 \epsilon_q, \qquad \epsilon_q = c \Delta^2 + \epsilon_A, \qquad
              \Delta = \frac{2 A}{2^q - 1}

    with :math:`c = 1/12` for nearest or subtractively dithered rounding, 1/6 for stochastic rounding on
    average (and for dither that is not subtracted), and the clipping error :math:`\epsilon_A` of a standard
    normal payload. Errors have zero mean given the data, clipping excepted, only if dithered or stochastic.

    Args:
        clip: A, in standard deviations.
        access: "tdma", at power P_k while a device is active; "ofdma", where a share of the band takes all
            of the energy, shares of equal rate; "uncoordinated", which no code for independent messages
            undercuts (at most 10 devices).
    """
    if not isinstance(bits, int | np.integer) or bits < 1:
        raise ValueError(f"bits = {bits} is not allowed: give a whole number of at least 1")
    if not 0 < clip < math.inf:
        raise ValueError(f"clip = {clip} is not allowed: give a number of standard deviations above 0")
    _choice("rounding", rounding, ROUNDING)
    _choice("access", access, USES)
    problem = one_receiver(problem)
    form = links(problem)
    squares = (problem.flattened().target_gains ** 2).sum(axis=-1)
    error = quantisation_error(int(bits), clip, rounding) * squares
    uses = np.where(form.lost > 0, np.inf, bits * USES[access](form))
    note = f"{bits} bits take {np.median(uses):.3g} channel uses per entry ({access}), an analog sum 0.5"
    return DigitalReference(shaped(error, problem), note, shaped(uses, problem))


def quantisation_error(bits: int, clip: float, rounding: str) -> float:
    """Mean squared error of one standard normal number, rounding and clipping."""
    step = 2 * clip / (2**bits - 1)
    tail = math.erfc(clip / math.sqrt(2)) / 2
    density = math.exp(-(clip**2) / 2) / math.sqrt(2 * math.pi)
    return ROUNDING[rounding] * step**2 + 2 * ((1 + clip**2) * tail - clip * density)


def ideal_digital(problem: AirCompProblem | AnyProblem) -> DigitalReference:
    r"""Ideal codes in orthogonal access, with the channel uses and the energy of the analog sum.

    .. math:: \min_{\theta \ge 0,\ \sum \theta = 1} \sum_k \omega_k^2
              \Big(1 + \frac{s_k}{\theta_k}\Big)^{-\theta_k}

    by Gaussian rate-distortion theory; a Gaussian is the worst source of its variance. Not the digital
    optimum: with several antennas devices can share a channel use, see :func:`ideal_digital_mac`.
    """
    problem = one_receiver(problem)
    form = links(problem)
    snr, needed = snr_of(form), form.targets > 0
    shares = equal_level_shares(distortion_level(snr, form.targets), needed)
    exponent = shares * np.log1p(snr / np.where(shares > 0, shares, 1.0))
    error = form.objective((form.targets**2 * np.exp(-exponent)).sum(axis=-1))
    return DigitalReference(
        shaped(error, problem), "orthogonal access only, not the digital optimum: see ideal-digital-mac"
    )


def ideal_digital_mac(problem: AirCompProblem | AnyProblem) -> DigitalReference:
    r"""Ideal codes in multiple access: the fair digital opponent where the receiver has several antennas.

    .. math:: \min_{r \ge 0} \sum_k \omega_k^2 2^{-r_k} \quad\text{subject to}\quad
              \sum_{k \in S} r_k \le \log_2 \det\Big(I + \sum_{k \in S} \tfrac{P_k}{\sigma^2} h_k h_k^H\Big)

    for all subsets S, exact by decomposition [Groenevelt91]; at most 10 devices. Independent codes, Gaussian
    payloads.
    """
    problem = one_receiver(problem)
    form = links(problem)
    require_few(form)
    pairs = zip(form.rows, form.targets, strict=True)
    error = form.objective(np.array([_least_distortion(*pair) for pair in pairs]))
    return DigitalReference(shaped(error, problem), "best rates of independent messages in multiple access")


def _least_distortion(rows: Complex[np.ndarray, "K n"], targets: Float[np.ndarray, "K"]) -> float:
    needed = targets > 0
    if not needed.any():
        return 0.0
    rates = best_rates(capacities(rows[needed]), targets[needed])
    return float((targets[needed] ** 2 * 2.0**-rates).sum())


REFERENCES: dict[str, Callable[[Any], DigitalReference]] = {
    "error-free": error_free,
    "digital-oma": digital_oma,
    "ideal-digital": ideal_digital,
    "ideal-digital-mac": ideal_digital_mac,
}


def _choice(field: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"{field} = {value!r} is unknown: choose from {', '.join(choices)}")
