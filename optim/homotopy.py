"""Reach a high signal-to-noise ratio through lower ones.

Near channel inversion the error is a narrow curved valley: descents creep along it, or settle in a poor
one. With more noise the valleys are wide and few. A short descent at a soft level, carried over to the
next, arrives in a good valley close to its bottom.
"""

import numpy as np
from jaxtyping import Complex, Float

# Amplitude ratio of a typical device at which descents are quick; it rises by this factor per level.
EASY_STRENGTH = 3.0
LEVEL_RATIO = 3.0
MAX_LEVELS = 6


def softening_levels(
    rows: Complex[np.ndarray, "*batch K n"], targets: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "L *batch"]:
    """Factors on the rows of each problem, rising towards 1 (not among them); none if all are easy."""
    strengths = np.where(targets > 0, np.linalg.norm(rows, axis=-1), 0.0)
    heard = np.sort(strengths, axis=-1)[..., ::-1]  # those who can be heard stand first
    middle = np.maximum((heard > 0).sum(axis=-1, keepdims=True) - 1, 0) // 2
    typical = np.take_along_axis(heard, middle, axis=-1)[..., 0]
    softest = EASY_STRENGTH / np.maximum(typical, EASY_STRENGTH)
    hardest = float(softest.min(initial=1.0))
    num_levels = min(int(np.ceil(np.log(1 / hardest) / np.log(LEVEL_RATIO))), MAX_LEVELS)
    remaining = 1 - np.arange(num_levels) / max(num_levels, 1)  # 1 at the softest level, then falling
    return softest ** remaining.reshape(-1, *(1,) * softest.ndim)


def at_level(
    levels: Float[np.ndarray, "L *batch"], level: int, num_levels: int
) -> Float[np.ndarray, "*batch"]:
    """Factors at one of `num_levels` common levels; problems that need fewer stay at their softest first."""
    index = level - (num_levels - len(levels))
    return levels[index] if index >= 0 else levels[0] if len(levels) else np.ones(levels.shape[1:])
