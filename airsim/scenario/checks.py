"""Combinations across sections that cannot work, and sweeps that would fail half way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from airsim.scenario import grid, names, tree
from airsim.scenario.learning import ImageData
from airsim.scenario.messages import problems_of, unknown_field
from airsim.scenario.network import Devices
from airsim.scenario.problems import Path, Problem, kind_of
from airsim.scenario.sweep import MAX_TRIALS, Figure, Sweep
from airsim.scenario.texts import TextData
from optim import quantity

Point = Mapping[str, Any]

_NOT_SWEPT = {
    "sweep": "remove it: a sweep cannot be swept",
    "figures": "remove it: figures do not change a result",
    "name": "remove it: the name does not change a result",
    "schema": "remove it: there is one schema",
    "seed": "use sweep.repeat for more seeds",
}


def task_problems(data: ImageData | TextData, devices: Devices) -> list[Problem]:
    """Tasks with too few images for their devices; how many texts there are is seen when they are read."""
    if isinstance(data, TextData):
        return []
    needed = devices.per_edge_server * data.partition.min_images
    involved: tuple[Path, ...] = (
        ("network", "devices", "per_edge_server"),
        ("learning", "data", "training_images"),
        ("learning", "data", "partition", "min_images"),
    )
    problems = []
    for index in range(len(data.tasks)):
        images = data.images_of_task(index)
        if images < needed:
            message = (
                f"task {index} has {images} training images, but {devices.per_edge_server} devices "
                f"with at least {data.partition.min_images} each need {needed}"
            )
            hint = "raise training_images or the share of this task, or take fewer devices"
            problems.append(Problem(message, hint, ("learning", "data", "tasks", index), involved))
    return problems[:1]


def figure_problems(figures: Sequence[Figure], sweep: Sweep | None) -> list[Problem]:
    """Axes of figures that are not swept or cannot be drawn; without a sweep, figures wait for one."""
    if sweep is None:
        return []
    swept = list(sweep.grid)
    problems = []
    for index, figure in enumerate(figures):
        for axis, key in (("x", figure.x), ("hue", figure.hue)):
            if key is not None and key not in swept:
                close = names.nearest(key, swept)
                hint = f"did you mean '{close}'?" if close else f"swept are: {', '.join(swept) or 'none'}"
                problems.append(Problem(f"'{key}' is not swept", hint, ("figures", index, axis)))
        placeless = [value for value in sweep.grid.get(figure.x, ()) if not _is_number(value)]
        if any(isinstance(value, dict | list | tuple) for value in placeless):
            message = f"'{figure.x}' is swept over mappings or lists, which have no place on an axis"
            hint = "sweep a number inside it, or take another swept key for x; hue may be left out"
            problems.append(Problem(message, hint, ("figures", index, "x")))
        elif placeless:
            message = f"'{figure.x}' is swept over {kind_of(placeless[0])}, which has no place on an axis"
            hint = "take a swept key of numbers for x, and this one for hue if need be"
            problems.append(Problem(message, hint, ("figures", index, "x")))
    return problems


def _is_number(value: object) -> bool:
    """Whether a swept value, with or without a unit, can stand on an axis."""
    if isinstance(value, str):
        return quantity.split(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def key_problems(root: type[BaseModel], sweep: Sweep) -> list[Problem]:
    """Keys of the grid that no scenario has, or that cannot be varied."""
    problems = []
    for key in sweep.grid:
        path = tree.parts(key)
        if path[0] in _NOT_SWEPT:
            problem = Problem(f"{key} cannot be swept", _NOT_SWEPT[path[0]])
        elif not names.is_field(root, path):
            siblings = [".".join((*path[:-1], name)) for name in names.fields_at(root, path[:-1]) or {}]
            close = names.nearest(key, siblings)
            hint = f"did you mean '{close}'?" if close else unknown_field(path, [], root).hint
            problem = Problem(f"'{key}' is no field of a scenario", hint)
        else:
            continue
        problems.append(replace(problem, path=("sweep", "grid", key), names_key=True))
    return problems


def point_problems(root: type[BaseModel], data: Mapping[str, Any], sweep: Sweep) -> list[Problem]:
    """What is wrong at any point of the grid, said once and at the value that brings it about."""
    points = grid.points(sweep.grid)
    trials = len(points) * sweep.repeat
    if trials > MAX_TRIALS:
        message = f"{len(points)} grid points times {sweep.repeat} seeds are {trials} trials, too many"
        return [Problem(message, f"keep below {MAX_TRIALS}", ("sweep", "grid"))]
    found: dict[tuple[Path, str], Problem] = {}
    first_with: dict[str, Point] = {}
    for point in points:
        point_data = grid.at_point(data, point)
        try:
            resolved = root.model_validate(point_data).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            for problem in problems_of(error, root):
                at_value = _at_value(problem, point, sweep)
                found.setdefault((at_value.path, problem.message), at_value)
        else:
            twin = first_with.setdefault(str([grid.shown(resolved, key, point[key]) for key in point]), point)
            if twin is not point:
                problem = _same_point(twin, point, sweep)
                found.setdefault((problem.path, problem.message), problem)
    return list(found.values())


def _at_value(problem: Problem, point: Point, sweep: Sweep) -> Problem:
    """A problem of a grid point, moved to the swept value that takes part in it.

    Fields that are not swept keep their part: an override of one is what to look at.
    """
    paths = (problem.path, *problem.others)
    swept = {path: _swept_key(path, point) for path in paths}
    involved = tuple(dict.fromkeys(key for key in swept.values() if key))
    moved = Problem(
        problem.message,
        problem.hint,
        ("sweep", "grid"),
        subject=problem.path,
        point=tuple((key, point[key]) for key in involved or point),
    )
    if not involved:
        return moved
    key = involved[0]
    subject = () if tree.parts(key) == problem.path else problem.path
    others = tuple(path for path in paths if not swept[path])
    place = ("sweep", "grid", key, sweep.grid[key].index(point[key]))
    return replace(moved, path=place, others=others, subject=subject)


def _swept_key(path: Path, point: Point) -> str:
    """The swept key that sets this path, or nothing."""
    return next((key for key in point if path[: len(tree.parts(key))] == tree.parts(key)), "")


def _same_point(first: Point, second: Point, sweep: Sweep) -> Problem:
    key = next(key for key in second if first[key] != second[key])
    place = ("sweep", "grid", key, sweep.grid[key].index(second[key]))
    return Problem(f"'{first[key]}' and '{second[key]}' are the same value", "keep one of the two", place)
