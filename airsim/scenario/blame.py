"""Errors that come up while a scenario is built, told where the field to blame was written."""

import functools
from collections.abc import Callable
from typing import TypeVar

from airsim.errors import AirsimError
from airsim.scenario import render, tree
from airsim.scenario.problems import Path, Problem, dotted
from airsim.scenario.schema import Scenario

ResultT = TypeVar("ResultT")


def locates_errors(build: Callable[[Scenario], ResultT]) -> Callable[[Scenario], ResultT]:
    """`build` with errors that blame fields (`errors.blaming`) as errors of the same kind, at file and line.

    A scenario that was made of plain data alone has no lines: its errors name the field.
    """

    @functools.wraps(build)
    def located(scenario: Scenario) -> ResultT:
        try:
            return build(scenario)
        except AirsimError as error:
            if not error.fields:
                raise
            raise type(error)(told(error, scenario)) from error

    return located


def told(error: AirsimError, scenario: Scenario) -> str:
    """File, line, field, what is wrong, and the way out, which stands behind the last semicolon."""
    first, *others = map(_path, error.fields)
    message, _, hint = str(error).rpartition("; ")
    if not scenario.layers or not message:
        return f"{dotted(first)}: {error}"
    problem = Problem(message, hint, first, tuple(others))
    return str(render.error_of([problem], scenario.layers))


def _path(field: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in tree.parts(field))
