r"""One receive antenna: design, error and proof of optimality in closed form, for batches of any length.

With :math:`r = \sigma |m| / \sqrt\kappa` and :math:`s_k = \sqrt{\kappa P_k} |h_k| / \sigma` the objective is
:math:`\kappa [r^2 + \sum_k (\omega_k - s_k r)_+^2]`; :func:`optim.threshold.best_scale` gives its minimiser.
Its multipliers :math:`\lambda_k = (\omega_k / (s_k r) - 1)_+` satisfy :math:`\sum_k \lambda_k s_k^2 = 1`, and
their dual value equals the error.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from optim.certificate import ROUNDING_MARGIN
from optim.problem import AirCompProblem
from optim.threshold import best_scale

# Problems per chunk: what it computes stays in the cache.
CHUNK_ENTRIES = 16_384
# Squares outside of these lose digits.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-290, 1e290

PerDevice = Float[np.ndarray, "B K"]
PerProblem = Float[np.ndarray, "B"]


class ScalarDesign(NamedTuple):
    """A flat batch of designs, the two parts of their errors, and a certified bound on their objectives."""

    transmit_scalars: Complex[np.ndarray, "B K"]
    receive_scalar: PerProblem
    misalignment: PerProblem
    noise: PerProblem
    bound: PerProblem


def design(problem: AirCompProblem) -> ScalarDesign:
    """The global optimum of every problem of a batch, as far as the channel is what it seems."""
    flat = problem.flattened()
    chunk = max(1, CHUNK_ENTRIES // flat.num_devices)
    parts = [_design_chunk(flat, slice(start, start + chunk)) for start in range(0, len(flat.channel), chunk)]
    if not parts:
        parts = [_design_chunk(flat, slice(0, 0))]
    return ScalarDesign(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _design_chunk(flat: AirCompProblem, part: slice) -> ScalarDesign:
    # Devices are the slow axis in memory: sums over them are sums of long rows.
    channel, targets, amplitude = (
        np.asfortranarray(table)
        for table in (flat.channel[part, :, 0], flat.target_gains[part], np.sqrt(flat.power_budget_w[part]))
    )
    weight = flat.misalignment_weight[part]
    deviation = np.sqrt(flat.noise_power_w[part] / weight)
    size = _magnitudes(channel)
    strengths = size / deviation[:, None] * amplitude
    scale = best_scale(strengths, targets)
    reached = strengths * scale[:, None]
    shortfall = np.maximum(targets - reached, 0.0)
    receive = scale / deviation
    return ScalarDesign(
        transmit_scalars=_scalars(channel, size * receive[:, None], (size, targets, amplitude)),
        receive_scalar=receive,
        misalignment=(shortfall**2).sum(axis=-1),
        noise=weight * scale**2,
        bound=weight * _dual_value(strengths, targets, reached),
    )


def _magnitudes(channel: Complex[np.ndarray, "B K"]) -> PerDevice:
    """``|h_k|``; without the care that extreme numbers need where there are none."""
    squares = channel.real**2
    squares += channel.imag**2
    low, high = squares.min(initial=np.inf), squares.max(initial=0.0)
    return np.sqrt(squares) if low > SMALLEST_SQUARE and high < LARGEST_SQUARE else np.abs(channel)


def _scalars(
    channel: Complex[np.ndarray, "B K"],
    gains: PerDevice,
    device: tuple[PerDevice, PerDevice, PerDevice],
) -> Complex[np.ndarray, "B K"]:
    """Aligned, and inverted as far as the power reaches; silence where nothing arrives."""
    size, targets, amplitude = device
    heard = gains > 0
    wanted = np.minimum(amplitude, targets / np.where(heard, gains, 1.0))
    return np.ascontiguousarray(np.where(heard, wanted / np.where(heard, size, 1.0), 0.0) * channel.conj())


def _dual_value(strengths: PerDevice, targets: PerDevice, reached: PerDevice) -> PerProblem:
    """The dual value of the multipliers that a point stands for, scaled to be feasible."""
    heard = reached > 0
    multipliers = np.where(heard, np.maximum(targets / np.where(heard, reached, 1.0) - 1, 0.0), 0.0)
    radius = (multipliers * strengths**2).sum(axis=-1) * (1 + ROUNDING_MARGIN)
    multipliers /= np.where(radius > 0, radius, 1.0)[:, None]
    share = np.where(strengths > 0, multipliers / (1 + multipliers), 1.0)
    return (targets**2 * share).sum(axis=-1) * (1 - ROUNDING_MARGIN)
