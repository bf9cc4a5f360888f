"""What is varied, how often it is repeated, and what is drawn from it."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from airsim.scenario.fields import Count, Flag, Section, Text
from airsim.scenario.problems import Problem, ProblemsError, kind_of
from optim.quantity import split

MAX_TRIALS = 10_000

ResultColumn = Literal[
    "accuracy",
    "accuracy_worst_task",
    "loss",
    "pi_predicted",
    "pi_realised",
    "sim_time_s",
    "energy_j",
    "channel_uses",
    "rounds",
    # Where `record.also_evaluate` asks for them.
    "accuracy_global",
    "accuracy_global_worst_task",
    "accuracy_cross_task",
    "accuracy_devices",
    "accuracy_worst_decile",
]


def _expand_axes(grid: Any) -> Any:
    if not isinstance(grid, dict):
        raise ProblemsError(
            Problem(
                f"a mapping is expected, not {kind_of(grid)}",
                "write for example {channel.snr: [0 dB, 20 dB]}",
            )
        )
    problems: list[Problem] = []
    axes = {}
    for key, values in grid.items():
        try:
            axes[key] = _expand(values)
        except ProblemsError as error:
            problems += [Problem(p.message, p.hint, (key, *p.path)) for p in error.problems]
    if problems:
        raise ProblemsError(*problems)
    return axes


def _expand(values: Any) -> tuple[Any, ...]:
    if isinstance(values, dict):
        return tuple(_steps(values))
    if not isinstance(values, list | tuple):
        hint = f"write [{values}]" if not isinstance(values, bool) else f"write [{str(values).lower()}]"
        raise ProblemsError(Problem(f"a list of values is expected, not {kind_of(values)}", hint))
    if not values:
        raise ProblemsError(
            Problem("the list of values is empty", "give at least one value, or remove the key")
        )
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise ProblemsError(
            Problem(f"{repeated[0]} stands here twice", "give each value once; `repeat` adds seeds")
        )
    return tuple(values)


def _steps(axis: dict[str, Any]) -> list[Any]:
    """The values of `{from, to, step}`, both ends included, in exact decimal arithmetic."""
    if set(axis) != {"from", "to", "step"}:
        raise ProblemsError(
            Problem(f"from, to and step are expected, not {', '.join(axis) or 'nothing'}", _STEPS_EXAMPLE)
        )
    (start, unit), (stop, stop_unit), (step, step_unit) = (
        _number_and_unit(axis, n) for n in ("from", "to", "step")
    )
    if not unit == stop_unit == step_unit:
        units = ", ".join(repr(u) if u else "none" for u in (unit, stop_unit, step_unit))
        raise ProblemsError(Problem(f"from, to and step have different units ({units})", _STEPS_EXAMPLE))
    count = (stop - start) / step if step else Decimal(-1)
    if count < 0:
        raise ProblemsError(
            Problem(
                f"a step of {axis['step']} never leads from {axis['from']} to {axis['to']}", _STEPS_EXAMPLE
            )
        )
    if count >= MAX_TRIALS:
        raise ProblemsError(Problem(f"{int(count) + 1} values are too many", f"keep below {MAX_TRIALS}"))
    if count % 1:
        last = start + int(count) * step
        hint = f"write to: {_value(last, unit)}, or another step"
        raise ProblemsError(Problem(f"steps of {axis['step']} from {axis['from']} miss {axis['to']}", hint))
    return [_value(start + index * step, unit) for index in range(int(count) + 1)]


_SMALLEST, _LARGEST = Decimal("1e-12"), Decimal("1e15")  # between these, steps are exact
_STEPS_EXAMPLE = "write for example {from: -20 dB, to: 30 dB, step: 10 dB}"


def _number_and_unit(axis: dict[str, Any], name: str) -> tuple[Decimal, str]:
    value = axis[name]
    parts: tuple[Decimal, str] | None
    if isinstance(value, int | float) and not isinstance(value, bool):
        parts = Decimal(repr(value)), ""
    else:
        parts = split(value) if isinstance(value, str) else None
    if parts is None or (parts[0] and not _SMALLEST <= abs(parts[0]) <= _LARGEST):
        raise ProblemsError(
            Problem(f"{name} must be an ordinary number, not {kind_of(value)}", _STEPS_EXAMPLE, (name,))
        )
    return parts


def _value(number: Decimal, unit: str) -> Any:
    if unit:
        return f"{number:f} {unit}"
    return int(number) if number == int(number) else float(number)


class Sweep(Section):
    """Every combination of the grid's values, the first key slowest, each repeated with several seeds.

    `paired` gives every point the same seeds: the same data, fading and initial adapters.
    """

    grid: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_expand_axes)] = Field(default_factory=dict)
    repeat: Count = 1
    paired: Flag = True


class Figure(Section):
    """A curve of one result over a swept key, one line per value of another."""

    x: Text
    y: ResultColumn = "accuracy"
    hue: Text | None = None
