r"""What no design for an uncertain channel can beat: a floor, and the bound of an equivalent known channel.

No beamformer hears a device with less than its smallest relative uncertainty,

.. math:: \rho_k = \min_m \frac{m^H \Sigma_k m}{\kappa \|H_k^H m\|^2}
                 = \frac{1}{\kappa\,\lambda_{\max}(H_k^H \Sigma_k^{+} H_k)}

(0 if some of :math:`H_k` lies outside the range of :math:`\Sigma_k`). A device's error rises with its
uncertainty, so every design's objective is at least

.. math:: \kappa \sum_k \omega_k^2 \frac{\rho_k}{1 + \rho_k}
          + \text{objective of a known channel } \sqrt{1 + \rho_k} H_k
          \text{ with targets } \omega_k / \sqrt{1 + \rho_k}

whose certified bounds then hold here, too. With one antenna the two problems are the same.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.certificate import ROUNDING_MARGIN
from optim.csi import ErrorCovariance
from optim.problem import AirCompProblem

# Directions of a covariance below this share of its largest eigenvalue count as perfectly known.
RANK_TOLERANCE = 1e-10


def least_uncertainty(problem: AirCompProblem) -> Float[np.ndarray, "*batch K"]:
    """``rho_k``, rounded down; 0 for a known channel, and for one whose estimate is zero."""
    covariance = problem.error_covariance
    if covariance is None:
        return np.zeros(problem.target_gains.shape)
    certainty = _certainty(problem.stacked_channel, covariance)  # lambda_max(H^H R^+ H)
    usable = (certainty > 0) & np.isfinite(certainty)
    ratio = covariance.scale / np.where(usable, certainty, 1.0) / problem.misalignment_weight[..., None]
    return np.where(usable, ratio * (1 - ROUNDING_MARGIN), 0.0)


def known_channel(
    problem: AirCompProblem,
) -> tuple[AirCompProblem, Float[np.ndarray, "*batch"]]:
    """The equivalent problem of a known channel, and the floor to add to its objective or bound."""
    ratio = least_uncertainty(problem)
    growth = np.sqrt(1 + ratio)
    lost = problem.target_gains**2 * (ratio / (1 + ratio))
    floor = problem.misalignment_weight * lost.sum(axis=-1) * (1 - ROUNDING_MARGIN)
    raised = growth.reshape(*growth.shape, *(1,) * (problem.channel.ndim - growth.ndim))
    equivalent = problem.replaced(
        channel=problem.channel * raised,
        target_gains=problem.target_gains / growth,
        error_covariance=None,
    )
    return equivalent, np.asarray(floor)


def _certainty(
    channel: Complex[np.ndarray, "*batch K N T"], covariance: ErrorCovariance
) -> Float[np.ndarray, "*batch K"]:
    """Largest eigenvalue of ``H^H R^+ H``, rounded up; infinite where a part of H is free of errors."""
    if covariance.shape is None:
        return _largest(np.swapaxes(channel.conj(), -1, -2) @ channel)
    spectrum, modes = np.linalg.eigh(covariance.shape)
    kept = spectrum > RANK_TOLERANCE * spectrum[..., -1:]
    seen = np.swapaxes(modes.conj(), -1, -2) @ channel  # *batch K N T
    free = np.where(kept[..., None], 0.0, np.abs(seen)).max(axis=(-2, -1))
    weighted = seen / np.sqrt(np.where(kept, spectrum, 1.0))[..., None] * kept[..., None]
    certainty = _largest(np.swapaxes(weighted.conj(), -1, -2) @ weighted)
    # Small eigenvalues are known to rounding of the largest only.
    smallest = np.where(kept, spectrum, np.inf).min(axis=-1)
    rounding = spectrum.shape[-1] * np.finfo(np.float64).eps * spectrum[..., -1] / smallest
    return np.where(free > 0, np.inf, certainty * (1 + rounding))


def _largest(gram: Complex[np.ndarray, "*batch T T"]) -> Float[np.ndarray, "*batch"]:
    return gram[..., 0, 0].real if gram.shape[-1] == 1 else np.linalg.eigvalsh(gram)[..., -1]
