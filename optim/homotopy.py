"""Reach a high signal-to-noise ratio through lower ones.

Near channel inversion the error is a narrow curved valley: descents creep along it, or settle in a poor
one. With more noise the valleys are wide and few. A short descent at a soft level, carried over to the
next, arrives in a good valley close to its bottom.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int


@dataclass(frozen=True)
class Ladder:
    """Levels of strength, as factors on the rows.

    Args:
        easy_strength: amplitude ratio of a typical device at which descents are quick: the softest level.
        ratio: rise of that amplitude from level to level.
        max_levels: most levels there are.
        steps: steps of the descent on each.
    """

    easy_strength: float
    ratio: float
    max_levels: int
    steps: int

    def softest_factors(
        self, rows: Complex[np.ndarray, "*batch KT n"], targets: Float[np.ndarray, "*batch K"]
    ) -> Float[np.ndarray, "*batch"]:
        """The factor on each problem's rows at which its typical device is easy; 1 where it already is."""
        squares = (np.abs(rows) ** 2).reshape(*targets.shape, -1).sum(axis=-1)
        strengths = np.where(targets > 0, np.sqrt(squares), 0.0)
        heard = np.sort(strengths, axis=-1)[..., ::-1]  # those who can be heard stand first
        middle = np.maximum((heard > 0).sum(axis=-1, keepdims=True) - 1, 0) // 2
        typical = np.take_along_axis(heard, middle, axis=-1)[..., 0]
        return self.easy_strength / np.maximum(typical, self.easy_strength)

    def level_counts(self, softest: Float[np.ndarray, "*batch"]) -> Int[np.ndarray, "*batch"]:
        """How many levels lie between the softest problem and the problem itself, the softest included."""
        needed = np.ceil(np.log(1 / softest) / np.log(self.ratio))
        return np.minimum(needed, self.max_levels).astype(np.int64)

    def factors_at(self, softest: Float[np.ndarray, "*batch"], level: int) -> Float[np.ndarray, "*batch"]:
        """Factors with `level` levels to go: the softest until a problem's own levels begin, 1 at level 0."""
        return softest ** np.minimum(level / np.maximum(self.level_counts(softest), 1), 1.0)


# For descents by majorisation, whose steps are short.
COARSE = Ladder(easy_strength=3.0, ratio=3.0, max_levels=6, steps=3)
# For problems with many more devices than dimensions, whose valleys are many.
FINE = Ladder(easy_strength=0.5, ratio=2.0, max_levels=20, steps=5)
