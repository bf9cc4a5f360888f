"""Reach a high signal-to-noise ratio through lower ones.

Near channel inversion the error is a narrow curved valley: descents creep along it, or settle in a poor
one. With more noise the valleys are wide and few. A short descent at a soft level, carried over to the
next, arrives in a good valley close to its bottom.
"""

import numpy as np
from jaxtyping import Complex, Float, Int

# Amplitude ratio of a typical device at which descents are quick; it rises by this factor per level.
EASY_STRENGTH = 3.0
LEVEL_RATIO = 3.0
MAX_LEVELS = 6
STEPS_PER_LEVEL = 3


def softest_factors(
    rows: Complex[np.ndarray, "*batch K n"], targets: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "*batch"]:
    """The factor on each problem's rows at which its typical device is easy; 1 where it already is."""
    strengths = np.where(targets > 0, np.linalg.norm(rows, axis=-1), 0.0)
    heard = np.sort(strengths, axis=-1)[..., ::-1]  # those who can be heard stand first
    middle = np.maximum((heard > 0).sum(axis=-1, keepdims=True) - 1, 0) // 2
    typical = np.take_along_axis(heard, middle, axis=-1)[..., 0]
    return EASY_STRENGTH / np.maximum(typical, EASY_STRENGTH)


def level_counts(softest: Float[np.ndarray, "*batch"]) -> Int[np.ndarray, "*batch"]:
    """How many levels lie between the softest problem and the problem itself, the softest included."""
    needed = np.ceil(np.log(1 / softest) / np.log(LEVEL_RATIO))
    return np.minimum(needed, MAX_LEVELS).astype(np.int64)


def factors_at(softest: Float[np.ndarray, "*batch"], level: int) -> Float[np.ndarray, "*batch"]:
    """Factors with `level` levels to go: the softest until a problem's own levels begin, 1 at level 0."""
    return softest ** np.minimum(level / np.maximum(level_counts(softest), 1), 1.0)
