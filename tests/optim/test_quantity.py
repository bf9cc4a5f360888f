"""Units at the edge: one meaning per text, one text per value."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim import quantity
from optim.quantity import DIMENSIONS, POWER_CONSUMPTION, QuantityError

EVERY_DIMENSION = (*DIMENSIONS, POWER_CONSUMPTION)
EVERY_UNIT = [(dimension, unit) for dimension in EVERY_DIMENSION for unit in dimension.units]


@pytest.mark.parametrize(
    ("text", "dimension", "si_value"),
    [
        ("30 dBm", quantity.POWER, 1.0),
        ("20dBm", quantity.POWER, 0.1),
        ("-10 dBW", quantity.POWER, 0.1),
        ("250 mW", quantity.POWER, 0.25),
        ("3 µW", quantity.POWER, 3e-6),
        ("0 W", quantity.POWER, 0.0),
        ("20 dB", quantity.RATIO, 100.0),
        ("−20 dB", quantity.RATIO, 0.01),
        ("-174 dBm/Hz", quantity.POWER_DENSITY, 10**-20.4),
        ("2.45 GHz", quantity.FREQUENCY, 2.45e9),
        ("3 ms", quantity.DURATION, 0.003),
        ("2 min", quantity.DURATION, 120.0),
        ("-1.5 km", quantity.DISTANCE, -1500.0),
        ("10 Mbit/s", quantity.DATA_RATE, 1e7),
        ("1e3 GFLOP/s", quantity.COMPUTE_SPEED, 1e12),
        ("2 Wh", quantity.ENERGY, 7200.0),
    ],
)
def test_a_text_has_its_si_value(text, dimension, si_value):
    assert quantity.parse(text, dimension) == pytest.approx(si_value, rel=1e-14)


def test_decibels_and_ratios_are_inverse():
    assert quantity.db(20) == 100.0
    assert quantity.dbm(30) == 1.0
    assert quantity.to_db(quantity.db(-7.5)) == pytest.approx(-7.5, abs=1e-14)
    assert quantity.to_dbm(quantity.dbm(23)) == pytest.approx(23, abs=1e-13)


def test_two_texts_of_one_value_give_the_same_float_and_the_same_text():
    from_watts = quantity.canonical("0.1 W", quantity.POWER)
    assert from_watts == quantity.canonical("20 dBm", quantity.POWER)
    assert quantity.format(from_watts, quantity.POWER) == "20 dBm"
    assert quantity.canonical("0.199526231497 W", quantity.POWER) == quantity.canonical(
        "23 dBm", quantity.POWER
    )


@pytest.mark.parametrize(("dimension", "unit"), EVERY_UNIT)
@settings(max_examples=40, deadline=None)
@given(number=st.floats(-1e6, 1e6))
def test_the_canonical_form_is_reached_in_one_step(dimension, unit, number):
    signed = number if unit in dimension.decibel or dimension.lowest < 0 else abs(number)
    text = f"{signed / 1e4 if unit in dimension.decibel else signed!r} {unit}"
    try:
        once = quantity.canonical(text, dimension)
    except QuantityError:  # smaller than any physical value
        return
    written = quantity.format(once, dimension)
    assert quantity.parse(written, dimension) == once
    assert quantity.format(quantity.parse(written, dimension), dimension) == written
    assert once == pytest.approx(quantity.parse(text, dimension), rel=2e-10)  # half a digit of 100 dB


@pytest.mark.parametrize("dimension", EVERY_DIMENSION)
def test_the_example_in_an_error_can_itself_be_read(dimension):
    for example in dimension.example.split(" or "):
        assert quantity.parse(example.strip("'"), dimension) is not None


@pytest.mark.parametrize(
    ("value", "dimension", "message"),
    [
        (20, quantity.RATIO, "20 has no unit: write '20 dB'"),
        ("20", quantity.POWER, "20 has no unit: write '20 dBm' or '20 W'"),
        (1e6, quantity.FREQUENCY, "has no unit: write '1000000 Hz'"),
        ("20 W", quantity.DISTANCE, "'20 W' is a power, not a distance: write for example '60 m'"),
        ("20 db", quantity.RATIO, "unknown unit 'db': did you mean '20 dB'"),
        ("1 mhz", quantity.FREQUENCY, "unknown unit 'mhz': did you mean '1 MHz'"),
        ("10 Mbps", quantity.DATA_RATE, "did you mean '10 Mbit/s'"),
        ("20 parsec", quantity.RATIO, "unknown unit 'parsec': units of a ratio: dB"),
        ("1,5 m", quantity.DISTANCE, "'1,5 m' is not a distance"),
        ("-1 W", quantity.POWER, "'-1 W' is negative"),
        ("nan dB", quantity.RATIO, "'nan dB' is not a ratio"),
        ("inf m", quantity.DISTANCE, "'inf m' is not a distance"),
        (math.nan, quantity.RATIO, "nan is not finite"),
        ("4000 dB", quantity.RATIO, "beyond any physical value"),
        ("1e999999999 W", quantity.POWER, "beyond any physical value"),
        ("1e-320 m", quantity.DISTANCE, "beyond any physical value"),
        (True, quantity.RATIO, "True is not a ratio"),
        (None, quantity.POWER, "None is not a power"),
        (["1 m"], quantity.DISTANCE, "is not a distance"),
        ("", quantity.DISTANCE, "is not a distance"),
    ],
)
def test_what_is_no_quantity_is_refused_with_a_way_out(value, dimension, message):
    with pytest.raises(QuantityError, match=message):
        quantity.parse(value, dimension)


@settings(deadline=None)
@given(text=st.text(max_size=12))
def test_any_text_is_a_finite_value_or_a_quantity_error(text):
    for dimension in EVERY_DIMENSION:
        try:
            assert math.isfinite(quantity.canonical(text, dimension))
        except QuantityError as error:
            assert error.hint


def test_a_value_that_is_not_finite_has_no_text():
    with pytest.raises(ValueError, match="not a finite value"):
        quantity.format(math.inf, quantity.POWER)
