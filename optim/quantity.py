"""Physical quantities as text: `23 dBm` -> 0.2 W as an SI float, and back to one canonical text.

The only file that knows decibels. It imports nothing but the standard library.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

SIGNIFICANT_DIGITS = 12
SMALLEST, LARGEST = 1e-300, 1e300  # beyond these, doubles no longer carry 12 digits both ways

_TEXT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d.,+-].*)?")
_SAME_SIGN = str.maketrans({"−": "-", "µ": "u", "μ": "u"})


class QuantityError(ValueError):
    """A text is not a quantity of the wanted dimension; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}: {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Dimension:
    """What may be written for one kind of quantity, and how it is written back.

    `linear` maps a unit to its SI factor, `decibel` to its SI reference (value = reference 10^(x/10)).
    `canonical` lists the units of the canonical text: the first one not larger than the value is used.
    """

    noun: str
    canonical: tuple[str, ...]
    example: str
    linear: Mapping[str, str] = field(default_factory=dict)
    decibel: Mapping[str, float] = field(default_factory=dict)
    lowest: float = 0.0

    @property
    def units(self) -> tuple[str, ...]:
        """Every unit that can be written, decibels first."""
        return (*self.decibel, *self.linear)


POWER = Dimension(
    "a power",
    ("dBm",),
    "'23 dBm' or '0.2 W'",
    linear={"W": "1", "kW": "1e3", "mW": "1e-3", "uW": "1e-6"},
    decibel={"dBm": 1e-3, "dBW": 1.0},
)
POWER_CONSUMPTION = Dimension(
    "a power", ("W",), "'1 W' or '30 dBm'", linear=POWER.linear, decibel=POWER.decibel
)
RATIO = Dimension("a ratio", ("dB",), "'20 dB'", decibel={"dB": 1.0})
POWER_DENSITY = Dimension(
    "a power density",
    ("dBm/Hz",),
    "'-174 dBm/Hz'",
    linear={"W/Hz": "1", "mW/Hz": "1e-3"},
    decibel={"dBm/Hz": 1e-3, "dBW/Hz": 1.0},
)
FREQUENCY = Dimension(
    "a frequency",
    ("GHz", "MHz", "kHz", "Hz"),
    "'1 MHz'",
    linear={"Hz": "1", "kHz": "1e3", "MHz": "1e6", "GHz": "1e9"},
)
DURATION = Dimension(
    "a duration",
    ("s", "ms", "us"),
    "'3 ms'",
    linear={"s": "1", "ms": "1e-3", "us": "1e-6", "min": "60", "h": "3600"},
)
DISTANCE = Dimension(
    "a distance",
    ("m",),
    "'60 m'",
    linear={"m": "1", "km": "1e3", "cm": "1e-2", "mm": "1e-3"},
    lowest=-math.inf,
)
DATA_RATE = Dimension(
    "a data rate",
    ("Gbit/s", "Mbit/s", "kbit/s", "bit/s"),
    "'10 Mbit/s'",
    linear={"bit/s": "1", "kbit/s": "1e3", "Mbit/s": "1e6", "Gbit/s": "1e9"},
)
COMPUTE_SPEED = Dimension(
    "a computing speed",
    ("TFLOP/s", "GFLOP/s", "MFLOP/s", "kFLOP/s", "FLOP/s"),
    "'1 GFLOP/s'",
    linear={"FLOP/s": "1", "kFLOP/s": "1e3", "MFLOP/s": "1e6", "GFLOP/s": "1e9", "TFLOP/s": "1e12"},
)
ENERGY = Dimension(
    "an energy",
    ("kJ", "J", "mJ", "uJ"),
    "'1.5 J'",
    linear={"J": "1", "kJ": "1e3", "mJ": "1e-3", "uJ": "1e-6", "Wh": "3600"},
)
DIMENSIONS = (
    POWER, RATIO, POWER_DENSITY, FREQUENCY, DURATION, DISTANCE, DATA_RATE, COMPUTE_SPEED, ENERGY,
)  # fmt: skip


def db(decibels: float | int) -> float:
    """The ratio that a number of decibels stands for: `db(20)` is 100."""
    return 10.0 ** (decibels / 10)


def dbm(decibel_milliwatts: float | int) -> float:
    """Watts of a level in dBm: `dbm(23)` is 0.1995 W; `ValueError` for NaN."""
    if math.isnan(decibel_milliwatts):
        raise ValueError("dbm(nan) is no level: give a number, or minus infinity for no power")
    return 1e-3 * db(decibel_milliwatts)


def to_db(ratio: float | int) -> float:
    """Decibels of a positive power ratio."""
    return 10 * math.log10(ratio)


def to_dbm(power_w: float | int) -> float:
    """Level in dBm of a positive power in watts."""
    return to_db(power_w / 1e-3)


def parse(text: object, dimension: Dimension) -> float:
    """The SI value of a text such as `23 dBm`; a QuantityError says what to write instead."""
    if not isinstance(text, str):
        raise _unitless(text, dimension)
    match = _TEXT.fullmatch(text.translate(_SAME_SIGN).strip())
    if match is None:
        raise QuantityError(f"'{text}' is not {dimension.noun}", f"write for example {dimension.example}")
    number, unit = match[1], (match[2] or "").strip()
    if not unit:
        raise _unitless(text, dimension)
    return _in_range(text, _to_si(number, unit, dimension), dimension)


def format(value: float | int, dimension: Dimension) -> str:
    """The canonical text of an SI value, 12 significant digits; `parse` reads it back."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite value of {dimension.noun[2:].strip()}")
    unit = dimension.canonical[0]
    if unit not in dimension.decibel:
        return _format_linear(value, dimension)
    if value == 0 and dimension.linear:
        return f"0 {next(iter(dimension.linear))}"
    decibels = round(to_db(value / dimension.decibel[unit]), SIGNIFICANT_DIGITS)
    return f"{decibels + 0.0:.{SIGNIFICANT_DIGITS}g} {unit}"


def canonical(text: object, dimension: Dimension) -> float:
    """The SI value after one trip through the canonical text: `0.1 W` and `20 dBm` give the same float."""
    return parse(format(parse(text, dimension), dimension), dimension)


def split(text: str) -> tuple[Decimal, str] | None:
    """Number and unit of a text, or None where it is not a number with a unit: `-20 dB` -> (-20, 'dB')."""
    match = _TEXT.fullmatch(text.translate(_SAME_SIGN).strip())
    if match is None or not match[2] or len(match[1]) > 2 * SIGNIFICANT_DIGITS:
        return None
    return Decimal(match[1]), match[2].strip()


def _to_si(number: str, unit: str, dimension: Dimension) -> float:
    if unit in dimension.linear:
        try:
            value = float(Decimal(number) * Decimal(dimension.linear[unit]))  # one rounding, at the end
            return value if value != 0 or not Decimal(number) else math.inf
        except ArithmeticError:  # an exponent beyond what even decimals hold
            return math.inf
    if unit in dimension.decibel:
        exponent = float(number) / 10
        return dimension.decibel[unit] * 10.0**exponent if abs(exponent) < 310 else math.inf
    raise _foreign_unit(number, unit, dimension)


def _in_range(text: str, value: float, dimension: Dimension) -> float:
    if value < dimension.lowest:
        raise QuantityError(f"'{text}' is negative", f"{dimension.noun} is written like {dimension.example}")
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise QuantityError(
            f"'{text}' is beyond any physical value", f"write for example {dimension.example}"
        )
    return value + 0.0  # no negative zero


def _unitless(value: object, dimension: Dimension) -> QuantityError:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return QuantityError(f"{value!r} is not {dimension.noun}", f"write for example {dimension.example}")
    if not isinstance(value, str) and not math.isfinite(value):
        return QuantityError(f"{value} is not finite", f"write for example {dimension.example}")
    number = value.strip() if isinstance(value, str) else f"{value:.{SIGNIFICANT_DIGITS}g}"
    units = (next(iter(dimension.decibel), None), next(iter(dimension.linear), None))
    choices = " or ".join(f"'{number} {unit}'" for unit in units if unit)
    return QuantityError(f"{value} has no unit", f"write {choices}")


def _foreign_unit(number: str, unit: str, dimension: Dimension) -> QuantityError:
    for other in DIMENSIONS:
        if unit in other.units:
            message = f"'{number} {unit}' is {other.noun}, not {dimension.noun}"
            return QuantityError(message, f"write for example {dimension.example}")
    by_lower_case = {known.lower(): known for known in reversed(dimension.units)}
    close = difflib.get_close_matches(unit.lower().replace("bps", "bit/s"), by_lower_case, n=1)
    units = ", ".join(dimension.units)
    hint = (
        f"did you mean '{number} {by_lower_case[close[0]]}'?"
        if close
        else f"units of {dimension.noun}: {units}"
    )
    return QuantityError(f"'{number} {unit}' has an unknown unit '{unit}'", hint)


def _format_linear(value: float | int, dimension: Dimension) -> str:
    rounded = Decimal(f"{value:.{SIGNIFICANT_DIGITS - 1}e}")
    fitting = [unit for unit in dimension.canonical if abs(rounded) >= Decimal(dimension.linear[unit])]
    smallest = next(iter(dimension.linear)) if rounded == 0 else dimension.canonical[-1]
    unit = fitting[0] if fitting else smallest
    number = (rounded / Decimal(dimension.linear[unit])).normalize()
    return f"{number:f} {unit}" if -7 < number.adjusted() < 16 else f"{number:e} {unit}"
