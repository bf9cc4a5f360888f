"""Several methods on one problem, side by side."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.digital import REFERENCES
from optim.interface import Effort, solve
from optim.options import SolverOptions, options_of
from optim.problem import AirCompProblem
from optim.reference import DigitalReference
from optim.solution import Solution
from optim.solvers.base import AbstractTransceiverSolver
from optim.solvers.catalogue import build_solver

METHODS = ("auto", "alternating", "full-power", "inversion")
Entry = AbstractTransceiverSolver | Callable[[Any], DigitalReference]


@dataclass(frozen=True)
class Row:
    """One method: its error (Pi of a combined problem), gap and time, or why it gave no design.

    Numbers are medians over a batch, `milliseconds` is for the whole of it. A digital reference has no
    design, and so no gap.
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
    batch: bool = False

    @property
    def _error_column(self) -> str:
        return "median MSE dB" if self.batch else "MSE dB"

    def table(self) -> str:
        """Aligned columns: method, MSE in dB, certified gap, milliseconds, how it ended."""
        cells = [
            ("method", self._error_column, "gap %", "ms", "outcome"),
            *(_cells(row) for row in self.rows),
        ]
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
        methods: names of methods or of the references in `optim.digital.REFERENCES`, or solvers with
            settings of their own (which keep their own effort).

    Raises:
        ValueError: for an unknown method or option.
    """
    if isinstance(methods, str):
        raise ValueError(f"methods = {methods!r} is one name: give a list, [{methods!r}]")
    options = options_of(effort)
    entries = [entry_of(method, options) for method in methods]
    names = [method if isinstance(method, str) else type(method).__name__ for method in methods]
    rows = tuple(_row(problem, *pair) for pair in zip(names, entries, strict=True))
    return Comparison(rows, bool(getattr(problem, "batch_shape", ())))


def entry_of(method: str | AbstractTransceiverSolver, options: SolverOptions) -> Entry:
    """The reference or solver of a name, or a `ValueError` with the nearest one."""
    if isinstance(method, AbstractTransceiverSolver):
        return method
    return REFERENCES[method] if method in REFERENCES else build_solver(method, options, tuple(REFERENCES))


def _row(problem: AirCompProblem | AnyProblem, name: str, entry: Entry) -> Row:
    begin = time.perf_counter()
    try:
        if isinstance(entry, AbstractTransceiverSolver):
            error, gap, outcome = _solved(solve(problem, entry))
        else:
            reference = entry(problem)
            error, gap = float(np.median(reference.mse)), None
            outcome = f"reference without an analog design: {reference.note}"
    except ValueError as refusal:
        return Row(name, None, None, None, None, str(refusal))
    milliseconds = 1e3 * (time.perf_counter() - begin)
    with np.errstate(divide="ignore"):
        return Row(name, error, float(10 * np.log10(error)), gap, milliseconds, outcome)


def _solved(solution: Solution | CombinedSolution) -> tuple[float, float, str]:
    error = solution.pi if isinstance(solution, CombinedSolution) else solution.mse
    statuses = solution.status if isinstance(solution.status, tuple) else (solution.status,)
    outcome = " ".join(sorted({status.name for status in statuses}))
    return float(np.median(error)), float(np.median(solution.gap)), outcome


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    gap = None if row.gap is None else 100 * row.gap
    numbers = [(row.mse_db, 2), (gap, 2), (row.milliseconds, 1)]
    error, gap_text, time_text = ("-" if n is None else f"{n:.{digits}f}" for n, digits in numbers)
    return row.method, error, gap_text, time_text, row.outcome
