"""Which fields the schema has where, and which of them a misspelt name may have meant."""

import difflib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from airsim.scenario.problems import Path


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a misspelt word most likely meant, or None."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[close[0]] if close else None


def fields_at(root: type[BaseModel], path: Path) -> dict[str, Any] | None:
    """Field names of the section at a path and their types: {} for a plain value, None where nothing is."""
    annotation: Any = root
    for part in path:
        below = _item(annotation) if isinstance(part, int) else _fields(annotation).get(part)
        if below is None:
            return None
        annotation = below
    return _fields(annotation)


def is_field(root: type[BaseModel], path: Path) -> bool:
    """Whether the schema knows a path."""
    return fields_at(root, path) is not None


def variant_fields(root: type[BaseModel], path: Path, kind: str) -> list[str]:
    """Field names of one kind of a section that has several."""
    annotation: Any = root
    for part in path:
        annotation = _item(annotation) if isinstance(part, int) else _fields(annotation)[part]
    return [name for model in _sections(annotation) if kind in _tags(model) for name in _named(model)]


def without_kinds(root: type[BaseModel], location: Path) -> tuple[Path, str]:
    """A pydantic location as a path of the file, and the kind of the section that its last part is in."""
    annotation: Any = root
    path: list[str | int] = []
    kind, kind_at = "", 0
    for part in location:
        tags = [tag for model in _sections(annotation) for tag in _tags(model)]
        if part in tags and len(_sections(annotation)) > 1 and part != kind:
            kind, kind_at = str(part), len(path)
            continue
        path.append(part)
        annotation = _item(annotation) if isinstance(part, int) else _fields(annotation).get(part)
    return tuple(path), kind if kind_at == len(path) - 1 else ""


def dotted_names(root: type[BaseModel]) -> list[str]:
    """Every field of the schema as a dotted key, sections included."""
    return list(_walk(root, ""))


def _walk(annotation: Any, above: str) -> Iterator[str]:
    for name, below in _fields(annotation).items():
        yield above + name
        yield from _walk(below, f"{above}{name}.")


def _fields(annotation: Any) -> dict[str, Any]:
    return {name: below for model in _sections(annotation) for name, below in _named(model).items()}


def _named(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The section types that an annotation names, through `Annotated`, `| None` and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _sections(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [model for choice in get_args(annotation) for model in _sections(choice)]
    return []


def _item(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _item(get_args(annotation)[0])
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
