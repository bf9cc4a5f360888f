"""Several methods on one problem, side by side."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.interface import Effort, solve
from optim.options import options_of
from optim.problem import AirCompProblem
from optim.solvers.base import AbstractTransceiverSolver
from optim.solvers.catalogue import build_solver

METHODS = ("auto", "alternating", "full-power", "inversion")


@dataclass(frozen=True)
class Row:
    """One method: its error (Pi of a combined problem), gap and time, or why it gave no design.

    Numbers are medians over a batch, `milliseconds` is for the whole of it.
    """

    method: str
    mse: float | None
    mse_db: float | None
    gap: float | None
    milliseconds: float | None
    outcome: str


@dataclass(frozen=True)
class Comparison:
    """The rows in the order asked for; ``str`` is the table."""

    rows: tuple[Row, ...]

    def table(self) -> str:
        """Aligned columns: method, MSE in dB, certified gap, milliseconds, how it ended."""
        cells = [("method", "MSE dB", "gap %", "ms", "outcome"), *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        return "\n".join(
            f"{line[0]:<{widths[0]}}  "
            + "  ".join(f"{text:>{width}}" for text, width in zip(line[1:4], widths[1:], strict=True))
            + f"  {line[4]}"
            for line in cells
        )

    def __str__(self) -> str:
        return self.table()


def compare(
    problem: AirCompProblem | AnyProblem,
    methods: Sequence[str | AbstractTransceiverSolver] = METHODS,
    **effort: Unpack[Effort],
) -> Comparison:
    """Solve by every method, with the same effort; what a method refuses is said in its row.

    Args:
        methods: names, or solvers with settings of their own (which keep their own effort).

    Raises:
        ValueError: for an unknown method or option.
    """
    options = options_of(effort)
    solvers = [
        method if isinstance(method, AbstractTransceiverSolver) else build_solver(method, options)
        for method in methods
    ]
    names = [method if isinstance(method, str) else type(method).__name__ for method in methods]
    return Comparison(tuple(_row(problem, *pair) for pair in zip(names, solvers, strict=True)))


def _row(problem: AirCompProblem | AnyProblem, name: str, solver: AbstractTransceiverSolver) -> Row:
    begin = time.perf_counter()
    try:
        solution = solve(problem, solver)
    except ValueError as refusal:
        return Row(name, None, None, None, None, str(refusal))
    milliseconds = 1e3 * (time.perf_counter() - begin)
    error = float(np.median(solution.pi if isinstance(solution, CombinedSolution) else solution.mse))
    with np.errstate(divide="ignore"):
        error_db = float(10 * np.log10(error))
    statuses = solution.status if isinstance(solution.status, tuple) else (solution.status,)
    outcome = " ".join(sorted({status.name for status in statuses}))
    return Row(name, error, error_db, float(np.median(solution.gap)), milliseconds, outcome)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.mse_db is None or row.gap is None or row.milliseconds is None:
        return row.method, "-", "-", "-", row.outcome
    return row.method, f"{row.mse_db:.2f}", f"{100 * row.gap:.2f}", f"{row.milliseconds:.1f}", row.outcome
