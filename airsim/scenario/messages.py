"""What pydantic found, in the words of a scenario file."""

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from airsim.scenario.names import dotted_names, fields_at, nearest, variant_fields, without_kinds
from airsim.scenario.problems import Path, Problem, ProblemsError, dotted, kind_of

_MISSING: dict[Path, str] = {
    ("schema",): "add schema: airsim/1",
    ("name",): "add a name: the results folder is called after it",
    ("channel",): "add channel: {snr: 20 dB}",
}
_BOUNDS = {
    "greater_than": ("too small", "write more than {gt:g}"),
    "greater_than_equal": ("too small", "write at least {ge:g}"),
    "less_than": ("too large", "write less than {lt:g}"),
    "less_than_equal": ("too large", "write at most {le:g}"),
}


def problems_of(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """Every problem of a validation, with its path in the file."""
    found = []
    for details in error.errors(include_url=False):
        path, kind = without_kinds(root, details["loc"])
        found += _explain(details, path, kind, root)
    return found


def unknown_field(path: Path, names: list[str], root: type[BaseModel], of_kind: str = "") -> Problem:
    """A name that the schema does not have, and the one it may have meant."""
    word = str(path[-1])
    others = [] if of_kind else [name for name in dotted_names(root) if name != dotted(path)]
    elsewhere = [name for name in others if name.rpartition(".")[2] == word]
    close = nearest(word, names) or (elsewhere[0] if elsewhere else nearest(dotted(path), others))
    hint = f"did you mean '{close}'?" if close else f"the fields here are {', '.join(names) or 'none'}"
    return Problem(f"unknown field{of_kind}", hint, path, names_key=True)


def not_one_of(value: Any, choices: list[str]) -> tuple[str, str]:
    """Message and way out for a value that is none of the choices."""
    close = nearest(str(value), choices)
    message = f"{kind_of(value)} is not one of {', '.join(choices)}"
    if len(choices) == 1:
        return f"{kind_of(value)} is not known here", f"write {choices[0]}"
    return message, f"did you mean '{close}'?" if close else f"write {choices[0]}, or another of them"


def _explain(details: ErrorDetails, path: Path, kind: str, root: type[BaseModel]) -> list[Problem]:
    context = details.get("ctx", {})
    error_type, value = details["type"], details["input"]
    if isinstance(context.get("error"), ProblemsError):
        return [problem.below(path) for problem in context["error"].problems]
    if error_type == "extra_forbidden":
        return [_unknown(path, kind, root)]
    if error_type == "missing":
        name = path[-1]
        return [Problem("is missing", _MISSING.get(path, f"add {name}: ..."), path)]
    if error_type in ("model_type", "model_attributes_type", "dict_type"):
        return [_not_a_mapping(path, value, root)]
    if error_type in ("tuple_type", "list_type"):
        return [
            Problem(f"a list is expected, not {kind_of(value)}", f"write [{_example(path, value)}]", path)
        ]
    if error_type == "literal_error":
        return [Problem(*not_one_of(value, _choices(context["expected"])), path)]
    if error_type == "union_tag_invalid":
        message = not_one_of(context["tag"], _choices(context["expected_tags"]))
        return [Problem(*message, (*path, "kind"))]
    if error_type in _BOUNDS:
        verdict, hint = _BOUNDS[error_type]
        return [Problem(f"{kind_of(value)} is {verdict}", hint.format(**context), path)]
    return [
        Problem(f"{kind_of(value)} cannot be used: {details['msg']}", "see the reference of this field", path)
    ]


def _unknown(path: Path, kind: str, root: type[BaseModel]) -> Problem:
    if kind:
        section = path[:-1]
        return unknown_field(path, variant_fields(root, section, kind), root, f" for kind {kind}")
    return unknown_field(path, list(fields_at(root, path[:-1]) or {}), root)


def _not_a_mapping(path: Path, value: Any, root: type[BaseModel]) -> Problem:
    names = ", ".join(fields_at(root, path) or {})
    return Problem(
        f"a mapping is expected, not {kind_of(value)}",
        f"write `field: value` lines; the fields are {names}",
        path,
    )


def _example(path: Path, value: Any) -> str:
    one = value if isinstance(value, str | int | float) and value != "" else "value, value"
    return {"hidden": "64, 64", "tasks": "{swap: [1, 7], share: 1}", "figures": "{x: channel.snr}"}.get(
        str(path[-1]), str(one)
    )


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")
