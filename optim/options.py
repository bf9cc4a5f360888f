"""How hard a solver tries."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from optim import checks


@dataclass(frozen=True)
class SolverOptions:
    """Effort; every method takes what concerns it.

    Args:
        starts: starting points that are descended from; 1 is quick, 8 careful, 32 nearly always optimal.
        max_iterations: of each descent.
        tolerance: relative fall of the error below which a descent ends.
        seed: of the starting points; the same call gives the same design.
        bound_tolerance: relative distance of the lower bound to the best one its relaxation has; infinite
            for the closed-form bounds only, which cost one eigenvalue.
        gap: relative gap at which a proof of optimality counts as closed.
        node_limit, time_limit_s: where a proof stops at the latest, with the best bound so far.
        conic_solver: name of an installed cvxpy solver; empty for Clarabel, then SCS.
    """

    starts: int = 8
    max_iterations: int = 200
    tolerance: float = 1e-7
    seed: int = 0
    bound_tolerance: float = 1e-3
    gap: float = 1e-3
    node_limit: int = 1_000_000
    time_limit_s: float = 60.0
    conic_solver: str = ""

    def __post_init__(self) -> None:
        for field, least in (("starts", 1), ("max_iterations", 1), ("node_limit", 1), ("seed", 0)):
            value = getattr(self, field)
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(
                    f"{field} = {value!r} is not allowed: give a whole number of at least {least}"
                )
        for field in ("tolerance", "bound_tolerance", "gap", "time_limit_s"):
            checks.above_zero(field, getattr(self, field))

    def generator(self) -> np.random.Generator:
        """A fresh generator: the same options give the same starting points."""
        return np.random.default_rng(self.seed)


def options_of(effort: Mapping[str, Any]) -> SolverOptions:
    """Options by name, or a `ValueError` with the nearest name."""
    names = [field.name for field in fields(SolverOptions)]
    for name in effort:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"option {name!r} is unknown: {hint}choose from {', '.join(names)}")
    return SolverOptions(**effort)
