r"""The exact rule for one antenna: weak devices send at full power, strong ones invert their channel.

For one antenna, and for any fixed receive direction, the best scale :math:`r = \sqrt{a}` minimises

.. math:: r^2 + \sum_k (w_k - s_k r)_+^2, \qquad s_k = \sqrt{P_k g_k} / \sigma

Device k is inverted when :math:`r` reaches its threshold :math:`w_k / s_k`. With :math:`S` the devices whose
threshold is above it, those that send at full power, the minimiser is [Cao20]

.. math:: r = \frac{\sum_S w_k s_k}{1 + \sum_S s_k^2}
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.phase_step import arriving, magnitudes


def best_scale(
    strengths: Float[np.ndarray, "*batch K"], targets: Float[np.ndarray, "*#batch K"]
) -> Float[np.ndarray, "*batch"]:
    """The minimiser ``r >= 0`` of ``r^2 + sum_k (w_k - s_k r)_+^2``, exactly.

    Newton's method on the derivative, which is concave and piecewise linear: from the set of all devices it
    rises from threshold to threshold and ends at the minimiser after at most K steps, usually three.
    """
    shape = np.broadcast_shapes(strengths.shape, targets.shape)
    strengths, targets = np.broadcast_to(strengths, shape), np.broadcast_to(targets, shape)
    products, squares = strengths * targets, strengths**2
    scale = products.sum(axis=-1) / (1 + squares.sum(axis=-1))
    for _ in range(shape[-1]):
        short = strengths * scale[..., None] < targets
        risen = (short * products).sum(axis=-1) / (1 + (short * squares).sum(axis=-1))
        if (risen <= scale).all():
            break
        scale = np.maximum(risen, scale)
    return np.asarray(scale)


def scaled_along(
    rows: Complex[np.ndarray, "*#batch KT n"],
    targets: Float[np.ndarray, "*#batch K"],
    directions: Complex[np.ndarray, "*batch n"],
    device_antennas: int = 1,
) -> Complex[np.ndarray, "*batch n"]:
    """The best multiple of each direction; a direction of zeros stays zero."""
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    units = directions / np.where(norm > 0, norm, 1.0)
    strengths = magnitudes(arriving(rows, units), device_antennas)
    return units * best_scale(strengths, targets)[..., None]
