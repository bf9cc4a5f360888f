"""The types of scenario fields: quantities with units, numbers without surprises, names."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from airsim.scenario.problems import Problem, ProblemsError, kind_of
from optim import quantity
from optim.quantity import Dimension, QuantityError


class Section(BaseModel):
    """A block of a scenario file: frozen, unknown keys are errors, defaults are read like written values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def default(written: Any) -> Any:
    """The default of a quantity, as a file would write it."""
    return Field(default=written)


def _read_positive(dimension: Dimension) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = _read_any(dimension)(value)
        if number <= 0:
            raise ProblemsError(
                Problem(f"'{value}' must be more than zero", f"write for example {dimension.example}")
            )
        return number

    return read


def _read_not_negative(dimension: Dimension) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = _read_any(dimension)(value)
        if number < 0:
            raise ProblemsError(
                Problem(f"'{value}' must not be negative", f"write for example {dimension.example}")
            )
        return number

    return read


def _read_any(dimension: Dimension) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            return quantity.canonical(value, dimension)
        except QuantityError as error:
            raise ProblemsError(Problem(error.message, error.hint)) from None

    return read


def _text_of(dimension: Dimension) -> PlainSerializer:
    def write(value: float) -> str:
        return quantity.format(value, dimension)

    return PlainSerializer(write, when_used="json")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ProblemsError(Problem(f"a whole number is expected, not {kind_of(value)}", "write for example 10"))


def _real(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value):
        return float(value)
    raise ProblemsError(Problem(f"a number is expected, not {kind_of(value)}", "write for example 0.5"))


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    raise ProblemsError(Problem(f"true or false is expected, not {kind_of(value)}", "write true or false"))


def _text(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    raise ProblemsError(
        Problem(f"a text is expected, not {kind_of(value)}", "put it in quotes if it is text")
    )


def _slug(value: Any) -> Any:
    text = _text(value)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text):
        return text
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "my-study"
    message = f"'{text}' cannot name a folder: letters, digits, '-', '_' and '.' only, at most 80"
    raise ProblemsError(Problem(message, f"write for example '{near[:80]}'"))


def _all_or_count(value: Any) -> Any:
    if value is None or value == "all":
        return None
    if isinstance(value, str):
        raise ProblemsError(
            Problem(f"a whole number or 'all' is expected, not '{value}'", "write for example 400, or all")
        )
    return _whole(value)


def _full_or_count(value: Any) -> Any:
    if value == "full":
        return value
    if isinstance(value, str):
        raise ProblemsError(
            Problem(f"a whole number or 'full' is expected, not '{value}'", "write for example 32, or full")
        )
    if _whole(value) < 1:
        raise ProblemsError(Problem(f"{value} is too small", "write at least 1, or full"))
    return _whole(value)


def _torch_device(value: Any) -> Any:
    text = _text(value)
    if re.fullmatch(r"cpu|(cuda|xpu)(:(0|[1-9]\d*))?", text):
        return text
    message = f"'{text}' is none of torch's devices cpu, cuda and xpu; cuda and xpu may be numbered: cuda:1"
    if text == "mps":
        message = "'mps' has no double precision, in which statistics and errors are computed"
    hint = (
        "write cuda for a GPU of NVIDIA or AMD" if "gpu" in text.lower() else "write for example cpu, or cuda"
    )
    raise ProblemsError(Problem(message, hint))


def exactly(count: int, example: str) -> BeforeValidator:
    """A list of a fixed length, said in one sentence instead of one complaint per missing item."""

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ProblemsError(
                Problem(f"a list is expected, not {kind_of(value)}", f"write for example {example}")
            )
        if len(value) != count:
            raise ProblemsError(
                Problem(f"{count} values are expected, not {len(value)}", f"write for example {example}")
            )
        return value

    return BeforeValidator(check)


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        message = f"'{value}' is no regular expression: {error}"
        raise ProblemsError(Problem(message, "write for example conv|linear0 or query|value")) from None
    return value


def _not_empty(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ProblemsError(Problem("the list is empty", "give at least one item"))
    return value


def default_kind(kind: str) -> BeforeValidator:
    """A section of several kinds that is written without `kind` has the default one."""

    def choose(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) and "kind" not in value else value

    return BeforeValidator(choose)


Power = Annotated[float, BeforeValidator(_read_positive(quantity.POWER)), _text_of(quantity.POWER)]
PowerConsumption = Annotated[
    float,
    BeforeValidator(_read_not_negative(quantity.POWER_CONSUMPTION)),
    _text_of(quantity.POWER_CONSUMPTION),
]
Ratio = Annotated[float, BeforeValidator(_read_any(quantity.RATIO)), _text_of(quantity.RATIO)]
PowerDensity = Annotated[
    float, BeforeValidator(_read_positive(quantity.POWER_DENSITY)), _text_of(quantity.POWER_DENSITY)
]
Frequency = Annotated[
    float, BeforeValidator(_read_positive(quantity.FREQUENCY)), _text_of(quantity.FREQUENCY)
]
Coordinate = Annotated[float, BeforeValidator(_read_any(quantity.DISTANCE)), _text_of(quantity.DISTANCE)]
Length = Annotated[float, BeforeValidator(_read_not_negative(quantity.DISTANCE)), _text_of(quantity.DISTANCE)]
DataRate = Annotated[float, BeforeValidator(_read_positive(quantity.DATA_RATE)), _text_of(quantity.DATA_RATE)]
ComputeSpeed = Annotated[
    float, BeforeValidator(_read_positive(quantity.COMPUTE_SPEED)), _text_of(quantity.COMPUTE_SPEED)
]

# Beyond these no machine follows, and products of several would overflow.
LARGEST_COUNT = 1_000_000_000
LARGEST_NUMBER = 1e30

Natural = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), BeforeValidator(_whole)]
Label = Annotated[int, Field(ge=0, le=9), BeforeValidator(_whole)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_NUMBER), BeforeValidator(_real)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST_NUMBER), BeforeValidator(_real)]
Fraction = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_real)]
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(_real)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
Pattern = Annotated[str, BeforeValidator(_text), AfterValidator(_regular_expression)]
TorchDevice = Annotated[str, BeforeValidator(_torch_device)]
Slug = Annotated[str, BeforeValidator(_slug)]
AllOrCount = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_all_or_count),
    PlainSerializer(lambda count: "all" if count is None else count, when_used="json"),
]
NOT_EMPTY = BeforeValidator(_not_empty)
Batch = Annotated[int | Literal["full"], BeforeValidator(_full_or_count)]
