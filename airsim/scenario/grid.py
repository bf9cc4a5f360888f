"""The points of a sweep, in order."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airsim.scenario.tree import merge, nested, parts, value_at


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the axes, the first key slowest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def at_point(data: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Scenario data with the values of one point laid over it."""
    result = dict(data)
    for key, value in point.items():
        result = merge(result, nested(key, value))
    return result


def shown(data: Mapping[str, Any], key: str, given: Any) -> Any:
    """A swept value for tables: as the scenario writes it, sections and lists as one text."""
    value = value_at(data, parts(key))
    if isinstance(value, dict):
        value = given
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
