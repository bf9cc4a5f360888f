"""Grids: their points, their order, their seeds, and what is refused before anything runs."""

import pytest

from airsim.scenario import Scenario

HEAD = "schema: airsim/1\nname: test\n"
MINIMAL = HEAD + "channel: {snr: 20 dB}\n"


def scenario(sweep, **sections):
    data = {"schema": "airsim/1", "name": "test", "seed": 5, "channel": {"snr": "20 dB"}, "sweep": sweep}
    return Scenario.from_mapping({**data, **sections})


def test_the_first_key_is_slowest_and_repeats_are_fastest():
    grid = {"channel.snr": ["0 dB", "10 dB"], "network.devices.per_edge_server": [2, 5]}
    trials = scenario({"grid": grid, "repeat": 2}).trials()
    assert [trial.index for trial in trials] == list(range(8))
    assert [tuple(trial.values.values()) for trial in trials] == [
        ("0 dB", 2),
        ("0 dB", 2),
        ("0 dB", 5),
        ("0 dB", 5),
        ("10 dB", 2),
        ("10 dB", 2),
        ("10 dB", 5),
        ("10 dB", 5),
    ]
    assert trials[3].scenario.network.devices.per_edge_server == 5
    assert trials[3].scenario.sweep is None
    assert trials[3].scenario.seed == trials[3].seed


def test_paired_points_share_their_seeds_and_unpaired_ones_share_none():
    grid = {"stop.rounds": [1, 2, 3]}
    assert [t.seed for t in scenario({"grid": grid, "repeat": 2}).trials()] == [5, 6, 5, 6, 5, 6]
    unpaired = scenario({"grid": grid, "repeat": 2, "paired": False}).trials()
    assert [t.seed for t in unpaired] == [5, 6, 7, 8, 9, 10]


def test_without_a_sweep_there_is_one_trial():
    (trial,) = scenario(None).trials()
    assert (trial.index, trial.values, trial.seed) == (0, {}, 5)


def test_a_trial_is_the_scenario_with_the_values_written_in_it():
    trial = scenario({"grid": {"channel.snr": ["0 dB"]}}).trials()[0]
    written = scenario(None).with_overrides({"channel.snr": "0 dB"})
    assert trial.scenario == written
    assert trial.scenario.fingerprint("data", 1) == written.fingerprint("data", 1)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (
            {"from": "-20 dB", "to": "30 dB", "step": "10 dB"},
            ["-20 dB", "-10 dB", "0 dB", "10 dB", "20 dB", "30 dB"],
        ),
        (
            {"from": "0 dB", "to": "1 dB", "step": "0.1 dB"},
            ["0 dB", *(f"0.{i} dB" for i in range(1, 10)), "1 dB"],
        ),
        ({"from": "3 dB", "to": "1 dB", "step": "-1 dB"}, ["3 dB", "2 dB", "1 dB"]),
    ],
)
def test_steps_include_both_ends_and_are_exact(axis, values):
    trials = scenario({"grid": {"channel.snr": axis}}).trials()
    assert [trial.values["channel.snr"] for trial in trials] == values


def test_values_are_shown_in_their_canonical_text():
    grid = {"network.devices.average_power": ["0.1 W", "100 W"], "learning.model.hidden": [[8], [8, 8]]}
    shown = [trial.values for trial in scenario({"grid": grid}).trials()]
    assert shown[0] == {"network.devices.average_power": "20 dBm", "learning.model.hidden": "[8]"}
    assert shown[3] == {"network.devices.average_power": "50 dBm", "learning.model.hidden": "[8, 8]"}


def test_whole_sections_and_nulls_can_be_swept():
    grid = {
        "channel.fading": [{"model": "rayleigh"}, {"model": "rician", "k_factor": "6 dB"}],
        "network.devices.peak_power": [None, "30 dBm"],
    }
    trials = scenario({"grid": grid}).trials()
    assert [t.scenario.channel.fading.model for t in trials] == ["rayleigh", "rayleigh", "rician", "rician"]
    assert [t.values["network.devices.peak_power"] for t in trials] == [None, "30 dBm", None, "30 dBm"]


@pytest.mark.parametrize(
    ("axis", "said", "way_out"),
    [
        ("channel.snrr: [0 dB]", "channel.snrr: 'channel.snrr' is no field of a scenario", "'channel.snr'"),
        ("snr: [0 dB]", "snr: 'snr' is no field of a scenario", "'channel.snr'"),
        ("seed: [1]", "seed: seed cannot be swept", "use sweep.repeat"),
        ("sweep.repeat: [1]", "sweep.repeat cannot be swept", "remove it"),
        ("channel.snr: 5 dB", "a list of values is expected, not the text '5 dB'", "write [5 dB]"),
        ("channel.snr: []", "the list of values is empty", "remove the key"),
        ("channel.snr: [0 dB, 0 dB]", "0 dB stands here twice", "`repeat` adds seeds"),
        ("channel.snr: [0 dB, 20]", "channel.snr.1: 20 has no unit", "write '20 dB'"),
        ("channel.snr: [0 dB, 3 m]", "channel.snr.1: '3 m' is a distance, not a ratio", "'20 dB'"),
        ("channel.snr: [0 dB, null]", "channel.snr.1: neither snr nor path_loss", "add snr"),
        (
            "network.devices.average_power: [0.1 W, 20 dBm]",
            "'0.1 W' and '20 dBm' are the same value",
            "keep one",
        ),
        (
            "network.devices.per_edge_server: [2, 99]",
            "per_edge_server.1: learning.data.tasks.1: task 1 has",
            "fewer",
        ),
        ("uplink.mode: [aircomp, ideal]", "uplink.mode.1: the text 'ideal' is not one of", "aircomp"),
        (
            "channel.snr: {from: 0 dB, to: 10 dB, step: 3 dB}",
            "steps of 3 dB from 0 dB miss 10 dB",
            "write to: 9 dB",
        ),
        (
            "channel.snr: {from: 0 dB, to: 10 dB}",
            "from, to and step are expected, not from, to",
            "step: 10 dB",
        ),
        ("channel.snr: {from: 0 dB, to: 10 dB, step: 0 dB}", "never leads from 0 dB to 10 dB", "step: 10 dB"),
        (
            "channel.snr: {from: 0 dB, to: 10, step: 1 dB}",
            "different units ('dB', none, 'dB')",
            "step: 10 dB",
        ),
        (
            "channel.snr: {from: a, to: 10 dB, step: 1 dB}",
            "from must be an ordinary number, not the text 'a'",
            "step",
        ),
        (
            "channel.snr: {from: 0 dB, to: 1e300 dB, step: 1 dB}",
            "to must be an ordinary number",
            "step: 10 dB",
        ),
        ("stop.rounds: {from: 1, to: 90000, step: 1}", "90000 values are too many", "keep below"),
        ("stop.rounds: [1, 2.5]", "stop.rounds.1: a whole number is expected, not 2.5", "write"),
    ],
)
def test_a_wrong_axis_is_said_at_its_line(axis, said, way_out, message):
    text = message(MINIMAL + f"sweep:\n  grid:\n    {axis}\n")
    first, shown, hint = text.splitlines()
    assert first.startswith("my.yaml:6: sweep.grid.")
    assert said in first
    assert shown == f"    6 |     {axis}"
    assert way_out in hint


def test_a_problem_of_many_points_is_said_once(message):
    axes = "    channel.snr: [0 dB, 10 dB, 5 m]\n    network.devices.per_edge_server: [2, 3, 99]\n"
    said = message(MINIMAL + "sweep:\n  grid:\n" + axes)
    assert said.count("my.yaml:") == 2
    assert "my.yaml:6: sweep.grid.channel.snr.2: '5 m'" in said
    assert "my.yaml:7: sweep.grid.network.devices.per_edge_server.2: learning.data.tasks.1: task 1" in said


def test_figures_show_swept_keys_only(message):
    said = message(
        MINIMAL
        + "sweep: {grid: {channel.snr: [0 dB]}}\nfigures:\n  - {x: channel.snrr, hue: foo}\n  - {y: acc}\n"
    )
    assert "my.yaml:7: figures.1.y: the text 'acc' is not one of accuracy" in said
    assert "my.yaml:7: figures.1.x: is missing" in said
    said = message(
        MINIMAL + "sweep: {grid: {channel.snr: [0 dB]}}\nfigures:\n  - {x: channel.snrr, hue: foo}\n"
    )
    assert "my.yaml:6: figures.0.x: 'channel.snrr' is not swept" in said
    assert "did you mean 'channel.snr'?" in said
    assert "my.yaml:6: figures.0.hue: 'foo' is not swept" in said


@pytest.mark.parametrize(
    ("axis", "x", "value"),
    [
        ("aggregation.sends: [change, factors]", "aggregation.sends", "the text 'change'"),
        ("learning.data.training_images: [200, all]", "learning.data.training_images", "the text 'all'"),
        ("learning.training.keep_state: [true, false]", "learning.training.keep_state", "true"),
        ("learning.participation.devices: [null, 2]", "learning.participation.devices", "null"),
    ],
)
def test_texts_and_flags_have_no_place_on_the_x_axis_of_a_figure(message, axis, x, value):
    text = MINIMAL + f"sweep: {{grid: {{{axis}, channel.snr: [0 dB, 9 dB]}}}}\nfigures: [{{x: {x}}}]\n"
    first, _, hint, *_ = message(text).splitlines()
    assert first == f"my.yaml:5: figures.0.x: '{x}' is swept over {value}, which has no place on an axis"
    assert hint.endswith("take a swept key of numbers for x, and this one for hue if need be")


def test_what_has_no_place_on_an_axis_is_no_x_of_a_figure(message):
    swept = "sweep: {grid: {learning.participation: [{share: 0.1}, {}]}}\n"
    said = message(MINIMAL + swept + "figures: [{x: learning.participation}]\n")
    assert "my.yaml:5: figures.0.x: 'learning.participation' is swept over mappings" in said
    assert "sweep a number inside it" in said
