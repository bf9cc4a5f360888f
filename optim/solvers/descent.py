"""Several descents side by side: the best of them, its history and how it ended."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, Float

from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import reduced_error
from optim.solution import History, Status

# (rows, targets, points, last moves) -> (new points, their errors)
Step = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def flat_copies(
    rows: Complex[np.ndarray, "B K n"], targets: Float[np.ndarray, "B K"], num_starts: int
) -> tuple[Complex[np.ndarray, "SB K n"], Float[np.ndarray, "SB K"]]:
    """Each problem once per start, start-major."""
    return np.tile(rows, (num_starts, 1, 1)), np.tile(targets, (num_starts, 1))


def descend(
    rows: Complex[np.ndarray, "B K n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    step: Step,
    options: SolverOptions,
) -> tuple[Complex[np.ndarray, "B n"], list[History]]:
    """Steps until each problem's error falls by less than the tolerance; finished ones drop out."""
    points, moves = points.copy(), np.zeros_like(points)
    errors = reduced_error(rows, targets, points)
    histories = [[float(error)] for error in errors]
    running = np.arange(len(points))
    for _ in range(options.max_iterations):
        stepped, new_errors = step(rows[running], targets[running], points[running], moves[running])
        fall = errors[running] - new_errors
        better = fall > 0  # a step that rounding spoilt is not taken
        moved = running[better]
        moves[moved] = stepped[better] - points[moved]
        points[moved], errors[moved] = stepped[better], new_errors[better]
        for index in moved:
            histories[index].append(float(errors[index]))
        running = running[fall > options.tolerance * errors[running]]
        if not running.size:
            break
    return points, [tuple(history) for history in histories]


def best_of(
    points: Complex[np.ndarray, "SB n"], histories: list[History], num_problems: int, options: SolverOptions
) -> tuple[Complex[np.ndarray, "B n"], list[tuple[Status, History]]]:
    """The start with the smallest error of each problem."""
    errors = np.array([history[-1] for history in histories]).reshape(-1, num_problems)
    chosen = [int(start) * num_problems + index for index, start in enumerate(np.argmin(errors, axis=0))]
    return points[chosen], [(_ending(histories[i], options), histories[i]) for i in chosen]


def rescaled(endings: list[tuple[Status, History]], form: NormalForm) -> list[tuple[Status, History]]:
    """Histories in the problem's own units."""
    units = zip(form.scale.tolist(), form.lost.tolist(), strict=True)
    return [
        (status, tuple(error * scale + lost for error in history))
        for (status, history), (scale, lost) in zip(endings, units, strict=True)
    ]


def _ending(history: History, options: SolverOptions) -> Status:
    """Whether a descent came to rest or ran out of iterations."""
    if len(history) <= options.max_iterations or history[-2] - history[-1] <= options.tolerance * history[-1]:
        return Status.CONVERGED
    return Status.ITERATION_LIMIT
