"""Look further along a step, and along the move before it: a monotone acceleration.

Majorise-minimise steps are safe but short. All points ``x + alpha (step - x) + beta (last move)`` on a
small grid are tried at once; ``alpha = 1, beta = 0`` is the plain step, so the best of them is never worse.
"""

import itertools

import numpy as np
from jaxtyping import Complex

_GRID = np.array(list(itertools.product((1.0, 2.0, 4.0), (0.0, 0.5, 1.0, 2.0, 4.0))))


def trial_points(
    point: Complex[np.ndarray, "*shape"],
    stepped: Complex[np.ndarray, "*shape"],
    last_move: Complex[np.ndarray, "*shape"],
) -> Complex[np.ndarray, "T *shape"]:
    """The plain step first, then all that look further."""
    alpha, beta = (factor.reshape(-1, *(1,) * point.ndim) for factor in _GRID.T)
    return point + alpha * (stepped - point) + beta * last_move
