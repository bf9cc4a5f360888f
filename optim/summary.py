"""Problems, solutions and bounds in a few readable lines."""

from collections import Counter
from typing import Any

import numpy as np

from optim.combined import layout
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.optional import missing_package
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.catalogue import build_solver
from optim.tight_bound import LARGEST_SYSTEM

_LISTED = 12
LOOSE = (
    "with so many devices the bound takes only those hardest to hear into account: it is valid, but may be "
    "far below every design"
)


def of_problem(problem: AirCompProblem | CombinedProblem) -> str:
    """Sizes, in one line."""
    if isinstance(problem, CombinedProblem):
        antennas = problem.base_station_channel.shape[1]
        return (
            f"{problem.num_devices} devices, a base station with {antennas} antennas, "
            f"{problem.num_edge_servers} edge servers"
        )
    count = int(np.prod(problem.batch_shape))
    batch = f"{count} problems: " if problem.batch_shape else ""
    return f"{batch}{problem.num_devices} devices, {problem.num_antennas} receive antennas"


def of_solution(solution: Solution | CombinedSolution, method: str) -> str:
    """Error, certificate, limits and how it ended."""
    if isinstance(solution, CombinedSolution):
        lines = _combined(solution, method)
    elif np.ndim(solution.mse):
        lines = _batch(solution, method)
    else:
        lines = _receiver(solution, method)
    return "\n".join(lines)


def of_bound(problem: AirCompProblem | CombinedProblem, value: Any) -> str:
    """The number that no design can beat; for a batch the mean."""
    mean = float(np.mean(value))
    what = f"mean of {np.size(value)} lower bounds" if np.ndim(value) else "lower bound"
    return f"{what} {_level(mean)}" + (f"\n  {LOOSE}" if is_loose(problem) else "")


def is_loose(problem: AirCompProblem | CombinedProblem) -> bool:
    """Whether the bound leaves out devices of so large a problem."""
    if isinstance(problem, AirCompProblem):
        return problem.num_devices > LARGEST_SYSTEM
    return 2 * problem.num_devices > layout.LARGEST_SYSTEM


def of_method(name: str) -> str:
    """What a method does: the first line of its documentation, or the package that it lacks."""
    try:
        solver = build_solver(name, SolverOptions())
    except ImportError as error:
        return missing_package(error)
    return (type(solver).__doc__ or "").strip().splitlines()[0].strip()


def _receiver(solution: Solution, method: str) -> list[str]:
    limited = np.flatnonzero(solution.at_power_limit)
    lines = [
        f"{method}: error {_level(solution.mse)}",
        f"  misalignment {solution.misalignment:.3e}, imperfect CSI {solution.csi_term:.3e}, "
        f"noise {solution.noise_term:.3e}",
    ]
    if solution.objective != solution.mse:
        weight = float(solution.misalignment_weight)
        lines.append(f"  objective {_level(solution.objective)}, misalignment counted {weight:g} times")
    return [
        *lines,
        _certificate(solution.lower_bound, solution.gap),
        *([f"  {LOOSE}"] if solution.bound_is_loose else []),
        f"  devices at their power limit: {len(limited)} of {len(solution.at_power_limit)}{_listed(limited)}",
        f"  {_sentence(solution.status)}",
    ]


def _batch(solution: Solution, method: str) -> list[str]:
    gaps = np.ravel(solution.gap)
    statuses = solution.status if isinstance(solution.status, tuple) else (solution.status,)
    return [
        f"{method}: mean error {_level(float(np.mean(solution.mse)))}",
        f"  mean lower bound {_level(float(np.mean(solution.lower_bound)))}; gap: median "
        f"{np.median(gaps):.3g}, largest {gaps.max():.3g}",
        *([f"  {LOOSE}"] if np.any(solution.bound_is_loose) else []),
        f"  devices at their power limit: {np.mean(solution.at_power_limit):.0%}",
        *(f"  {count} of {len(statuses)}: {one.value}" for one, count in Counter(statuses).most_common()),
    ]


def _combined(solution: CombinedSolution, method: str) -> list[str]:
    base, *edges = (f"{error:.3e}" for error in solution.stream_mse)
    return [
        f"{method}: Pi {_level(solution.pi)}",
        f"  error at the base station {base}, at the edge servers {', '.join(edges) or 'none'}",
        _certificate(solution.lower_bound, solution.gap),
        f"  {solution.certificate}",
        *([f"  {LOOSE}"] if solution.bound_is_loose else []),
        f"  {_sentence(solution.status)}",
    ]


def _certificate(lower_bound: Any, gap: Any) -> str:
    return f"  no design is below {_level(lower_bound)}: gap {float(gap):.3g}"


def _sentence(status: Status | tuple[Status, ...]) -> str:
    return status.value if isinstance(status, Status) else "; ".join(one.value for one in status)


def _level(value: Any) -> str:
    number = float(value)
    return f"{10 * np.log10(number):.3f} dB ({number:.4e})" if number > 0 else f"{number:g}"


def _listed(devices: Any) -> str:
    if not len(devices):
        return ""
    return f" ({', '.join(map(str, devices[:_LISTED]))}{', ...' if len(devices) > _LISTED else ''})"
