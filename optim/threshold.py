r"""The exact rule for one antenna: weak devices send at full power, strong ones invert their channel.

For one antenna, and for any fixed receive direction, the best scale :math:`r = \sqrt{a}` minimises

.. math:: r^2 + \sum_k (w_k - s_k r)_+^2, \qquad s_k = \sqrt{P_k g_k} / \sigma

Device k is inverted when :math:`r` reaches its threshold :math:`w_k / s_k`. With the thresholds in
falling order and :math:`S_j` the first j devices, the minimiser is

.. math:: r_j = \frac{\sum_{S_j} w_k s_k}{1 + \sum_{S_j} s_k^2}

for the first j with :math:`r_j` at or above the next threshold [Cao20].
"""

import numpy as np
from jaxtyping import Complex, Float


def best_scale(
    strengths: Float[np.ndarray, "*batch K"], targets: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "*batch"]:
    """The minimiser ``r >= 0`` of ``r^2 + sum_k (w_k - s_k r)_+^2``, by sorting and prefix sums."""
    heard = strengths > 0
    thresholds = np.where(
        heard, targets / np.where(heard, strengths, 1.0), np.where(targets > 0, np.inf, 0.0)
    )
    order = np.argsort(-thresholds, axis=-1, kind="stable")
    thresholds = np.take_along_axis(thresholds, order, axis=-1)
    strengths = np.take_along_axis(strengths, order, axis=-1)
    products = strengths * np.take_along_axis(targets, order, axis=-1)
    scales = products.cumsum(axis=-1) / (1 + (strengths**2).cumsum(axis=-1))
    following = np.zeros_like(thresholds)
    following[..., :-1] = thresholds[..., 1:]
    first = np.argmax(scales >= following, axis=-1)
    return np.asarray(np.take_along_axis(scales, first[..., None], axis=-1)[..., 0])


def scaled_along(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    directions: Complex[np.ndarray, "*batch n"],
) -> Complex[np.ndarray, "*batch n"]:
    """The best multiple of each direction; a direction of zeros stays zero."""
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    units = directions / np.where(norm > 0, norm, 1.0)
    strengths = np.abs((rows @ units[..., None])[..., 0])
    return units * best_scale(strengths, targets)[..., None]
