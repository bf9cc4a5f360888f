"""Data of several files laid over each other, and which of them a value came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airsim.scenario.problems import Path
from optim.places import Entry

KINDS = ("kind", "model")  # where this names another kind, the fields of the old kind do not survive


@dataclass(frozen=True)
class Layer:
    """One file, or one override: its data and the place of every path (None for an override).

    A file has a place for the empty path too: its first line.
    """

    source: str
    data: Mapping[str, Any]
    entries: Mapping[Path, Entry | None]
    extended_by: str = ""
    override: Path = ()


@dataclass(frozen=True)
class Sources:
    """Where a scenario was written, which makes no difference between equal ones."""

    layers: tuple[Layer, ...] = field(compare=False)


@dataclass(frozen=True)
class Origin:
    """Where to look for a path: the layer, its place there, and how much of the path stands there."""

    layer: Layer
    depth: int
    found: Path
    entry: Entry | None


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` laid over `lower`: mappings are merged, everything else replaced, null deletes."""
    result = dict(lower)
    for key, value in upper.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            keeps = isinstance(below, dict) and not _is_another_kind(below, value)
            result[key] = merge(below if isinstance(below, dict) and keeps else {}, value)
        else:
            result[key] = value
    return result


def nested(key: str, value: Any) -> dict[str, Any]:
    """`channel.snr` and its value as nested mappings."""
    for part in reversed(parts(key)):
        value = {part: value}
    return dict(value)


def parts(key: str) -> tuple[str, ...]:
    """The path of a dotted key; below `sweep.grid` the rest is one key."""
    if key.startswith("sweep.grid."):
        return ("sweep", "grid", key.removeprefix("sweep.grid."))
    return tuple(key.split("."))


def override_layer(key: str, value: Any) -> Layer:
    """An override as the topmost layer, named as it is written on the command line."""
    places: dict[Path, Entry | None] = dict.fromkeys(_paths(value, parts(key)))
    shown = value if isinstance(value, str) else "null" if value is None else _flow(value)
    return Layer(f"-s {key}={shown}", nested(key, value), places, override=parts(key))


def locate(layers: Sequence[Layer], path: Path) -> Origin | None:
    """The place that shows most of a path; of equal ones the topmost, and nothing below a replaced value."""
    best: Origin | None = None
    for depth in range(len(layers) - 1, -1, -1):
        layer = layers[depth]
        found = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in layer.entries), None)
        if found is None:
            continue
        if best is None or len(found) > len(best.found):
            best = Origin(layer, depth, found, layer.entries[found])
        if not isinstance(value_at(layer.data, found), dict):
            break
    return best


def within_override(layers: Sequence[Layer], path: Path) -> Origin | None:
    """The topmost override whose key leads through a path that no file has."""
    for depth in range(len(layers) - 1, -1, -1):
        if path and layers[depth].override[: len(path)] == path:
            return Origin(layers[depth], depth, path, None)
    return None


def value_at(data: Any, path: Path) -> Any:
    """The value at a path, or None where there is none."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def null_paths(data: Mapping[str, Any], above: Path = ()) -> list[Path]:
    """Every path that is set to null, that is, deleted."""
    found: list[Path] = []
    for key, value in data.items():
        if value is None:
            found.append((*above, key))
        elif isinstance(value, dict):
            found += null_paths(value, (*above, key))
    return found


def _is_another_kind(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> bool:
    return any(
        isinstance(lower.get(key), str) and isinstance(upper.get(key), str) and lower[key] != upper[key]
        for key in KINDS
    )


def _paths(value: Any, above: Path) -> list[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, item in items for path in _paths(item, (*above, key)))]


def _flow(value: Any) -> str:
    """A value on one line, as YAML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
