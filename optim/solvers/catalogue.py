"""Every method by its name."""

import difflib
from collections.abc import Callable

from optim.options import SolverOptions
from optim.solvers.alternating import AlternatingMMSE
from optim.solvers.base import AbstractTransceiverSolver
from optim.solvers.baselines import ChannelInversion, EqualSplit, FullPower
from optim.solvers.branch_and_bound import BranchAndBound
from optim.solvers.fixed_direction import (
    AntennaSelection,
    LeadingEigenvector,
    RandomDirection,
    WeakestDevice,
    WeightedSum,
)
from optim.solvers.phase_mm import PhaseMajoriseMinimise
from optim.solvers.robust import RobustDesign
from optim.solvers.sequential_quadratic import SequentialQuadratic
from optim.solvers.single_antenna import Automatic, ThresholdRule
from optim.solvers.truncated_inversion import TruncatedInversion


def _successive_convex(options: SolverOptions) -> AbstractTransceiverSolver:
    # cvxpy takes more than a second to import: only when it is asked for.
    from optim.solvers.successive_convex import SuccessiveConvexApproximation

    return SuccessiveConvexApproximation(options)


def _semidefinite(options: SolverOptions) -> AbstractTransceiverSolver:
    from optim.solvers.semidefinite import SemidefiniteRelaxation

    return SemidefiniteRelaxation(options)


def _forcing_relaxation(options: SolverOptions) -> AbstractTransceiverSolver:
    from optim.solvers.uniform_forcing import UniformForcingRelaxation

    return UniformForcingRelaxation(options)


def _forcing_tangents(options: SolverOptions) -> AbstractTransceiverSolver:
    from optim.solvers.uniform_forcing import UniformForcingTangents

    return UniformForcingTangents(options)


def _forcing_difference(options: SolverOptions) -> AbstractTransceiverSolver:
    from optim.solvers.uniform_forcing import UniformForcingDifference

    return UniformForcingDifference(options)


SOLVERS: dict[str, Callable[[SolverOptions], AbstractTransceiverSolver]] = {
    "auto": Automatic,
    "threshold": lambda _: ThresholdRule(),
    "sqp": SequentialQuadratic,
    "branch-and-bound": BranchAndBound,
    "phase-mm": PhaseMajoriseMinimise,
    "robust": RobustDesign,
    "alternating": AlternatingMMSE,
    "sca": _successive_convex,
    "sdr": _semidefinite,
    "uniform-forcing-sdr": _forcing_relaxation,
    "uniform-forcing-sca": _forcing_tangents,
    "uniform-forcing-dc": _forcing_difference,
    "full-power": FullPower,
    "inversion": ChannelInversion,
    "truncated-inversion": TruncatedInversion,
    "random-direction": RandomDirection,
    "weighted-sum": lambda _: WeightedSum(),
    "leading-eigenvector": lambda _: LeadingEigenvector(),
    "weakest-device": lambda _: WeakestDevice(),
    "antenna-selection": lambda _: AntennaSelection(),
    "equal-split": EqualSplit,
}


def build_solver(
    method: str, options: SolverOptions, others: tuple[str, ...] = ()
) -> AbstractTransceiverSolver:
    """The solver of that name, or a `ValueError` with the nearest one, which may be among `others`."""
    if not isinstance(method, str):
        shown = f"{method.__name__}: give an instance of it" if isinstance(method, type) else repr(method)
        raise ValueError(f"method is {shown}; choose a name from {', '.join(SOLVERS)}, or give a solver")
    if method not in SOLVERS:
        known = (*SOLVERS, *others)
        near = difflib.get_close_matches(method.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"method = {method!r} is unknown: {hint}choose from {', '.join(known)}")
    return SOLVERS[method](options)
