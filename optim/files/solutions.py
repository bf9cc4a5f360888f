"""Solutions in files: what was asked, how it ended, the numbers and the design, bit by bit."""

import os
import pathlib
from dataclasses import MISSING, Field, asdict, fields
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Float

from optim.combined.blocks import MultiBlockDesign
from optim.combined.solution import CombinedSolution
from optim.files import formats, numbers
from optim.files.designs import design_of, design_tree
from optim.files.source import Finding, FindingError, Source, kind_of, nearest
from optim.options import SolverOptions
from optim.solution import Solution, Status

SCHEMA = "optim-solution/1"
_CLASSES: dict[str, type] = {"receiver": Solution, "combined": CombinedSolution}
_PER_DEVICE = ("power_budget_w",)
# Computed from the fields below; written for readers, not read back.
_SUMMARY = ("mse", "mse_db", "objective", "gap", "bound_is_loose", "power_w", "power_dbm", "at_power_limit")


def save_solution(
    solution: Solution | CombinedSolution,
    path: str | os.PathLike[str],
    method: str = "",
    options: SolverOptions | None = None,
) -> None:
    """Write a solution to a YAML, JSON, NPZ or MAT file, and what it was made by where that is said.

    Numbers that are not finite, such as the dBm of a silent device, are null in YAML and JSON.
    """
    formats.write(pathlib.Path(path), solution_tree(solution, method, options))


def load_solution(path: str | os.PathLike[str]) -> Solution | CombinedSolution:
    """The solution that `save_solution` wrote, every bit of it.

    Raises:
        FileError: naming file, line and field of what is no part of a solution.
    """
    source = formats.read(pathlib.Path(path), str(path))
    kind = source.tree.get("kind")
    if source.tree.get("schema") != SCHEMA or kind not in _CLASSES:
        message = f"is no solution: schema is {kind_of(source.tree.get('schema'))}"
        raise source.error([Finding((), message, f"name a file that says schema: {SCHEMA}")])
    findings: list[Finding] = []
    values: dict[str, Any] = {}
    for field in fields(_CLASSES[kind]):
        if field.name in source.tree:
            try:
                values[field.name] = _value(field, source)
            except FindingError as error:
                findings.append(error.finding)
        elif field.default is MISSING:
            findings.append(Finding((), f"{field.name} is missing", "write the solution again"))
    if findings:
        raise source.error(findings)
    return _CLASSES[kind](**values)


def solution_tree(
    solution: Solution | CombinedSolution, method: str = "", options: SolverOptions | None = None
) -> dict[str, Any]:
    """Everything about a solution, in the order a reader asks for it."""
    if not isinstance(solution, Solution | CombinedSolution):
        raise ValueError(
            f"solution is a {type(solution).__name__}: give what `solve` returned "
            "(`save_problem` writes problems)"
        )
    if isinstance(solution.design, MultiBlockDesign):
        raise ValueError(
            "a design for several blocks has no file form: save each of `design.blocks` on its own"
        )
    batch = np.ndim(solution.mse) if isinstance(solution, Solution) else 0
    apart = {"design": design_tree(solution.design), "history": _padded(solution.history)}
    names = [field.name for field in fields(solution) if field.name not in (*apart, "status")]
    shown = [name for name in _SUMMARY if hasattr(solution, name)]
    return {
        "schema": SCHEMA,
        "kind": "receiver" if isinstance(solution, Solution) else "combined",
        "package": f"optim {package_version()}",
        **({"method": method} if method else {}),
        **({"options": asdict(options)} if options else {}),
        **_status_tree(solution.status),
        "batch_axes": batch,
        **{name: getattr(solution, name) for name in (*shown, *names)},
        **apart,
    }


def package_version() -> str:
    """The installed version; a bare copy of the folder has none."""
    try:
        return metadata.version("airsim-fl")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _value(field: Field[Any], source: Source) -> Any:
    raw, path = source.tree[field.name], (field.name,)
    axes = numbers.one_whole(source.tree.get("batch_axes", 0), ("batch_axes",), source.folder)
    if field.name == "design":
        return design_of(raw, path, axes)
    if field.name == "status":
        return _status(raw, axes)
    if field.name == "history":
        return _history(raw, axes)
    if field.type is bool:
        return bool(raw)
    own_axes = axes + (field.name in _PER_DEVICE or field.name == "stream_mse")
    array = numbers.fitted(numbers.reals(raw, path, source.folder), own_axes)
    return array if array.ndim else array.item()


def _status_tree(status: Status | tuple[Status, ...]) -> dict[str, Any]:
    if isinstance(status, Status):
        return {"status": status.name, "status_sentence": status.value}
    return {"status": [one.name for one in status], "status_sentence": [one.value for one in status]}


def _status(raw: Any, axes: int) -> Status | tuple[Status, ...]:
    names = raw if isinstance(raw, list) else [raw]
    for name in names:
        if name not in Status.__members__:
            hint = nearest(str(name), Status.__members__)
            raise FindingError(("status",), f"{kind_of(name)} is no status", hint)
    found = tuple(Status[name] for name in names)
    return found if axes else found[0]


def _padded(history: Any) -> Float[np.ndarray, "..."]:
    """One row per problem of a batch, filled up with NaN."""
    if not history or not isinstance(history[0], tuple):
        return np.array(history, dtype=np.float64)
    rows = np.full((len(history), max(map(len, history))), np.nan)
    for row, values in zip(rows, history, strict=True):
        row[: len(values)] = values
    return rows


def _history(raw: Any, axes: int) -> Any:
    try:
        rows = np.atleast_2d(np.array(_without_nulls(raw), dtype=np.float64))
    except (TypeError, ValueError):
        raise FindingError(("history",), "is no table of numbers", "write the solution again") from None
    kept = [tuple(row[~np.isnan(row)].tolist()) for row in rows if row.size]
    return tuple(kept) if axes else next(iter(kept), ())


def _without_nulls(raw: Any) -> Any:
    if isinstance(raw, list):
        return [_without_nulls(item) for item in raw]
    return np.nan if raw is None else raw
