"""Every method by its name."""

import difflib
from collections.abc import Callable

from optim.options import SolverOptions
from optim.solvers.base import AbstractTransceiverSolver
from optim.solvers.phase_mm import PhaseMajoriseMinimise
from optim.solvers.single_antenna import Automatic, ThresholdRule

SOLVERS: dict[str, Callable[[SolverOptions], AbstractTransceiverSolver]] = {
    "auto": Automatic,
    "threshold": lambda _: ThresholdRule(),
    "phase-mm": PhaseMajoriseMinimise,
}


def build_solver(method: str, options: SolverOptions) -> AbstractTransceiverSolver:
    """The solver of that name, or a `ValueError` with the nearest one."""
    if method not in SOLVERS:
        near = difflib.get_close_matches(method, SOLVERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"method = {method!r} is unknown: {hint}choose from {', '.join(SOLVERS)}")
    return SOLVERS[method](options)
