"""How hard a solver tries."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SolverOptions:
    """Number of starting points, iterations of each, relative tolerance, seed of the starting points."""

    starts: int = 4
    max_iterations: int = 200
    tolerance: float = 1e-7
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("starts", "max_iterations"):
            value = getattr(self, field)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{field} = {value} is not allowed: give a whole number of at least 1")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance = {self.tolerance} is not allowed: give a number above zero")

    def generator(self) -> np.random.Generator:
        """A fresh generator: the same options give the same starting points."""
        return np.random.default_rng(self.seed)
