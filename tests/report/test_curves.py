"""Figures show the table: means over seeds and their bands, one line per combination of the other keys."""

import csv

import pytest
from scipy.stats import t as student

from airsim.errors import ResultsError
from airsim.report.curves import axis_of, curves
from airsim.report.figures import Drawing, draw, sweep_drawings
from airsim.scenario import Scenario, bundled_names
from airsim.study import read_sweep
from airsim.study.table import MEASURES, write_results

KEYS = ("channel.snr", "devices")


def rows(values):
    return [
        {"channel.snr": snr, "devices": devices, "seed": str(seed), "accuracy": accuracy}
        for (snr, devices, seed), accuracy in values.items()
    ]


TABLE = rows(
    {
        ("20 dB", "2", 0): "0.8",
        ("20 dB", "2", 1): "0.9",
        ("-10 dB", "2", 0): "0.5",
        ("-10 dB", "2", 1): "0.5",
        ("20 dB", "5", 0): "0.95",
        ("20 dB", "5", 1): "",
        ("0 dB", "5", 0): "0.7",
    }
)


def test_points_are_means_over_seeds_in_order_of_x():
    two, five = curves(TABLE, "channel.snr", "accuracy", KEYS, "devices")
    assert [two.label, five.label] == ["2", "5"]
    assert [(point.x, point.mean) for point in two.points] == [(-10.0, 0.5), (20.0, pytest.approx(0.85))]


def test_the_band_is_students_interval_and_a_single_seed_has_none():
    two, _ = curves(TABLE, "channel.snr", "accuracy", KEYS, None)
    half_width = student.ppf(0.975, 1) * 0.05  # deviation 0.0707 over sqrt(2)
    assert two.points[1].half_width == pytest.approx(half_width)
    [single] = curves(TABLE[:1], "channel.snr", "accuracy", KEYS, None)
    assert single.points[0].half_width == 0 and single.points[0].num_seeds == 1


def test_a_point_with_a_failed_trial_is_named_and_not_averaged_over_the_survivors():
    five = curves(TABLE, "channel.snr", "accuracy", KEYS, None)[1]
    assert five.omitted == (20.0,)
    assert [point.x for point in five.points] == [0.0]


def test_an_axis_that_is_no_number_or_no_column_is_explained():
    with pytest.raises(ResultsError, match="no column 'speed'"):
        curves(TABLE, "speed", "accuracy", KEYS, None)
    words = [{"channel.snr": "loud", "accuracy": "1"}]
    with pytest.raises(ResultsError, match="'loud' is no number"):
        curves(words, "channel.snr", "accuracy", ("channel.snr",), None)
    with pytest.raises(ResultsError, match=r"failures\.json"):
        curves([{"channel.snr": "0 dB", "accuracy": ""}], "channel.snr", "accuracy", ("channel.snr",), None)


def test_a_figure_comes_with_the_numbers_it_shows(tmp_path):
    lines = curves(TABLE, "channel.snr", "accuracy", KEYS, None)
    paths = draw(Drawing("a", "channel.snr", "dB", "accuracy", "Devices", lines), tmp_path)
    assert [path.suffix for path in paths] == [".pdf", ".png", ".csv"]
    with paths[2].open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [(row["line"], row["channel.snr (dB)"], row["num_seeds"]) for row in table] == [
        ("2", "-10.0", "2"),
        ("2", "20.0", "2"),
        ("5", "0.0", "1"),
    ]
    assert b"/FontFile2" in paths[0].read_bytes()  # fonts are embedded as TrueType


def test_values_in_several_units_stand_on_one_axis_in_one_unit():
    rows = [{"b": value, "accuracy": "0.5"} for value in ("500 kHz", "1 MHz", "20 MHz")]
    [line] = curves(rows, "b", "accuracy", ("b",), None)
    assert [point.x for point in line.points] == [0.5, 1.0, 20.0]
    assert axis_of([row["b"] for row in rows], "b")[1] == "MHz"


def test_zero_cannot_stand_on_a_logarithmic_axis(tmp_path):
    rows = [{"channel.snr": "0 dB", "pi_predicted": "0.0"}]
    lines = curves(rows, "channel.snr", "pi_predicted", ("channel.snr",), None)
    with pytest.raises(ResultsError, match="zero somewhere"):
        draw(Drawing("p", "channel.snr", "dB", "pi_predicted", "", lines), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [("1", "2", "16"), ("0.05", "0.1", "0.3"), ("1e-3", "1.0")])
def test_numbers_without_a_unit_stand_on_an_axis_too(values):
    places, unit = axis_of(values, "key")
    assert unit == "" and [places[value] for value in values] == [float(value) for value in values]


@pytest.mark.parametrize("values", [("nan",), ("auto",), ("",), ('{"a": 1}',), ("1", "2 dB")])
def test_what_cannot_share_an_axis_is_refused(values):
    with pytest.raises(ResultsError):
        axis_of(values, "key")


@pytest.mark.parametrize("name", [name for name in bundled_names() if Scenario.load(name).figures])
def test_the_figures_of_every_bundled_sweep_can_be_drawn(name, tmp_path):
    scenario = Scenario.load(name)
    outcomes = dict.fromkeys(MEASURES, 0.5)
    (tmp_path / "sweep.lock.yaml").write_text(scenario.resolved_yaml())
    write_results(tmp_path, [(trial.values, trial.seed, outcomes) for trial in scenario.trials()])
    drawings = sweep_drawings(read_sweep(tmp_path))
    assert len(drawings) == len(scenario.figures) > 0
    for drawing in drawings:
        assert len(draw(drawing, tmp_path / "figures")) == 3
