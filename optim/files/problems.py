"""Problems in files: YAML, JSON, NPZ or MAT in, the same out, bit by bit."""

import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy as np

from optim.combined.blocks import MultiBlockProblem
from optim.combined.problem import CombinedProblem
from optim.csi import ErrorCovariance
from optim.files import formats, numbers
from optim.files.schema import COMBINED, EXAMPLES, RECEIVER, Field
from optim.files.source import Finding, FindingError, Source, kind_of, nearest
from optim.places import Path
from optim.problem import AirCompProblem

SCHEMA = "optim-problem/1"
_HEADER = ("schema", "kind")
_KINDS: dict[str, tuple[type, dict[str, Field]]] = {
    "receiver": (AirCompProblem, RECEIVER),
    "combined": (CombinedProblem, COMBINED),
}
# How the messages of a constructor begin: `members[0]`, `error_covariance.scale[3, 1]`.
_BLAMED = re.compile(r"(\w+)(?:\.(\w+))?((?:\[[\d, ]+\])*)")


def load_problem(path: str | os.PathLike[str]) -> AirCompProblem | CombinedProblem:
    """The problem that a YAML, JSON, NPZ or MAT file describes; README.md has the fields.

    Raises:
        FileError: naming file, line, field, value and way out of everything that is wrong with it.
    """
    source = formats.read(pathlib.Path(path), str(path))
    kind, findings = _kind(source.tree)
    if kind not in _KINDS:
        raise source.error(findings)
    problem_class, schema = _KINDS[kind]
    schema = {name: field for name, field in schema.items() if field.argument in _arguments(problem_class)}
    given, values = _given(source.tree, schema, findings), {}
    for argument, name in given.items():
        try:
            values[argument] = schema[name].read(source.tree[name], (name,), source.folder)
        except FindingError as error:
            findings.append(error.finding)
        except ValueError as error:
            findings.append(_finding(error, given))
    findings += _missing(problem_class, given)
    if findings:
        raise source.error(findings)
    return _build(source, problem_class, _fitted(values, given, schema), given)


def save_problem(problem: AirCompProblem | CombinedProblem, path: str | os.PathLike[str]) -> None:
    """Write the problem to a YAML, JSON, NPZ or MAT file; `load_problem` gives back every bit of it.

    Raises:
        ValueError: for anything that is no problem of one block.
        FileError: where the file cannot be.
    """
    formats.write(pathlib.Path(path), problem_tree(problem))


def problem_tree(problem: AirCompProblem | CombinedProblem) -> dict[str, Any]:
    """The fields of a problem, powers in watts."""
    if isinstance(problem, MultiBlockProblem):
        raise ValueError(
            "a problem of several blocks has no file form: save each of `problem.blocks` on its own"
        )
    if not isinstance(problem, AirCompProblem | CombinedProblem):
        raise ValueError(
            f"problem is a {type(problem).__name__}: give an AirCompProblem or a CombinedProblem "
            "(`save_solution` writes solutions)"
        )
    kind = "combined" if isinstance(problem, CombinedProblem) else "receiver"
    tree = {"schema": SCHEMA, "kind": kind, **_fields(problem)}
    if tree.get("rank_shared") is not None:
        tree.pop("shares", None)  # they follow from the ranks
    return tree


def _fields(value: Any) -> dict[str, Any]:
    pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: _leaf(part) for name, part in pairs if part is not None}


def _leaf(value: Any) -> Any:
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, tuple):
        is_flat = all(isinstance(part, int | float) for part in value)
        return np.array(value) if value and is_flat else [_leaf(part) for part in value]
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value


def _arguments(problem_class: type) -> list[str]:
    return [field.name for field in fields(problem_class)]


def _kind(tree: Mapping[str, Any]) -> tuple[str, list[Finding]]:
    findings = []
    if tree.get("schema", SCHEMA) != SCHEMA:
        message = f"{kind_of(tree['schema'])} is not read here"
        findings.append(Finding(("schema",), message, f"write schema: {SCHEMA}, or leave it out"))
    kind = tree.get("kind", "combined" if "base_station_channel" in tree else "receiver")
    if kind not in _KINDS:
        message = f"{kind_of(kind)} is no kind of problem"
        findings.append(Finding(("kind",), message, nearest(str(kind), _KINDS)))
        return "", findings
    return str(kind), findings


def _given(tree: Mapping[str, Any], schema: Mapping[str, Field], findings: list[Finding]) -> dict[str, str]:
    """Which name of the file gives which argument; names that give none, or one twice, are findings."""
    given: dict[str, str] = {}
    for name, value in tree.items():
        if name in _HEADER or (name in schema and value is None):
            continue
        if name not in schema:
            findings.append(Finding((name,), "unknown field", nearest(name, schema), at_key=True))
        elif schema[name].argument in given:
            other = given[schema[name].argument]
            findings.append(Finding((name,), f"says the same as {other}", "keep one of the two", at_key=True))
        else:
            given[schema[name].argument] = name
    return given


def _missing(problem_class: type, given: Mapping[str, str]) -> list[Finding]:
    required = [f.name for f in fields(problem_class) if f.default is MISSING and f.name not in given]
    return [
        Finding((), f"{EXAMPLES[name].split(':')[0]} is missing", f"add {EXAMPLES[name]}")
        for name in required
    ]


def _fitted(
    values: Mapping[str, Any], given: Mapping[str, str], schema: Mapping[str, Field]
) -> dict[str, Any]:
    """Rows, columns and scalars of array files with the axes that the problem counts."""
    per_problem = 2 if values.get("device_antennas", 1) == 1 else 3
    batch = max(values["channel"].ndim - per_problem, 0) if "channel" in values else 0
    fitted = dict(values)
    for argument, value in values.items():
        axes = schema[given[argument]].axes
        if isinstance(value, ErrorCovariance):
            fitted[argument] = ErrorCovariance(numbers.fitted(value.scale, batch + 1), value.shape)
        elif axes is not None and isinstance(value, np.ndarray):
            array = numbers.fitted(value, batch + axes)
            fitted[argument] = array if array.ndim else array.item()
    return fitted


def _build(source: Source, problem_class: type, values: Mapping[str, Any], given: Mapping[str, str]) -> Any:
    try:
        return problem_class(**values)
    except ValueError as error:
        raise source.error([_finding(error, given)]) from None


def _finding(error: ValueError, given: Mapping[str, str]) -> Finding:
    """What a constructor refuses, at the place in the file that its message begins with."""
    text, blamed = str(error), _BLAMED.match(str(error))
    path: Path = ()
    if blamed and blamed[1] in given:
        indices = tuple(int(index) for index in re.findall(r"\d+", blamed[3]))
        path = (given[blamed[1]], *([blamed[2]] if blamed[2] else []), *indices)
    head, _, rest = text.partition(": ")
    if head.isidentifier():  # `members: device 3 stands in 2 tasks; every device ...`
        head, _, rest = text.partition("; ")
    return Finding(path, head, rest or "change it here")
