"""Every error names file, line, field, value and a way out."""

import pytest

from airsim.errors import ScenarioError
from airsim.scenario import Scenario

HEAD = "schema: airsim/1\nname: test\n"
MINIMAL = HEAD + "channel: {snr: 20 dB}\n"


def test_an_error_shows_the_line_and_points_at_the_place(message):
    said = message(HEAD + "network:\n  devices:\n    per_edge_servr: 5\nchannel: {snr: 20}\n")
    assert said == (
        "my.yaml:5: network.devices.per_edge_servr: unknown field\n"
        "    5 |     per_edge_servr: 5\n"
        "      |     ^ did you mean 'per_edge_server'?\n"
        "my.yaml:6: channel.snr: 20 has no unit\n"
        "    6 | channel: {snr: 20}\n"
        "      |                ^ write '20 dB'"
    )


@pytest.mark.parametrize(
    ("line", "said", "way_out"),
    [
        ("foo: 1", "foo: unknown field", "the fields here are schema, name, seed, network"),
        ("bandwidth: 1 MHz", "bandwidth: unknown field", "did you mean 'channel.bandwidth'?"),
        (
            "network: [a]",
            "network: a mapping is expected, not a list",
            "the fields are base_station, edge_servers",
        ),
        ("network: 5", "network: a mapping is expected, not 5", "`field: value` lines"),
        ("seed: 1.5", "seed: a whole number is expected, not 1.5", "write for example 10"),
        ("seed: true", "seed: a whole number is expected, not true", "write for example 10"),
        ("seed: -1", "seed: -1 is too small", "write at least 0"),
        ("learning: {torch_device: gpu}", "learning.torch_device: 'gpu' is none of torch's", "write cuda"),
        ("learning: {torch_device: cpu:1}", "'cpu:1' is none of torch's devices", "write for example cpu"),
        ("stop: {rounds: '5'}", "stop.rounds: a whole number is expected, not the text '5'", "example 10"),
        (
            "network: {edge_servers: {ring_radius: 20 W}}",
            "ring_radius: '20 W' is a power, not a distance",
            "'60 m'",
        ),
        (
            "network: {devices: {average_power: 0.1}}",
            "average_power: 0.1 has no unit",
            "'0.1 dBm' or '0.1 W'",
        ),
        (
            "network: {devices: {average_power: 0 W}}",
            "average_power: '0 W' must be more than zero",
            "'23 dBm'",
        ),
        (
            "network: {devices: {average_power: nan dBm}}",
            "average_power: 'nan dBm' is not a power",
            "'23 dBm'",
        ),
        ("network: {devices: {height: -2 m}}", "height: '-2 m' must not be negative", "'60 m'"),
        (
            "network: {base_station: {position: [0 m, 1 m]}}",
            "position: 3 values are expected, not 2",
            "[0 m, 0 m",
        ),
        ("network: {base_station: {position: [0 m, 1, 2 m]}}", "position.1: 1 has no unit", "write '1 m'"),
        (
            "links: {downlink_rate: 10 Mbps}",
            "links.downlink_rate: '10 Mbps' has an unknown unit",
            "'10 Mbit/s'",
        ),
        (
            "uplink: {mode: air-comp}",
            "uplink.mode: the text 'air-comp' is not one of aircomp, error-free",
            "'aircomp'",
        ),
        ("uplink: {csi: estimated}", "uplink.csi: the text 'estimated' is not known here", "write perfect"),
        (
            "allocation: {method: phase_mm}",
            "allocation.method: the text 'phase_mm' is not one of",
            "'phase-mm'",
        ),
        ("allocation: {misalignment_weight: 0}", "misalignment_weight: 0 is too small", "write more than 0"),
        (
            "learning: {learning_rate: fast}",
            "learning_rate: a number is expected, not the text 'fast'",
            "0.5",
        ),
        ("learning: {batch: 0}", "learning.batch: 0 is too small", "write at least 1, or full"),
        (
            "learning: {batch: half}",
            "learning.batch: a whole number or 'full' is expected, not 'half'",
            "or full",
        ),
        ("learning: {model: {hidden: 64}}", "learning.model.hidden: a list is expected, not 64", "[64, 64]"),
        ("learning: {model: {hidden: [64, 0]}}", "learning.model.hidden.1: 0 is too small", "at least 1"),
        (
            "learning: {model: {base: {kind: pretraned}}}",
            "base.kind: the text 'pretraned' is not one of",
            "'pretrained'",
        ),
        ("learning: {model: {base: {kind: file}}}", "learning.model.base.path: is missing", "add path"),
        (
            "learning: {model: {base: {kind: random, steps: 3}}}",
            "base.steps: unknown field for kind random",
            "kind",
        ),
        ("learning: {model: {base: {momentum: 1}}}", "momentum: 1 is too large", "write less than 1"),
        (
            "learning: {data: {training_images: some}}",
            "a whole number or 'all' is expected, not 'some'",
            "or all",
        ),
        ("learning: {data: {tasks: []}}", "learning.data.tasks: the list is empty", "at least one"),
        (
            "learning: {data: {tasks: {a: 1}}}",
            "learning.data.tasks: a list is expected, not a mapping",
            "swap",
        ),
        ("sweep: {paired: 1}", "sweep.paired: true or false is expected, not 1", "write true or false"),
        ("sweep: {repeat: 0}", "sweep.repeat: 0 is too small", "at least 1"),
    ],
)
def test_a_wrong_value_is_said_with_its_field_and_a_way_out(line, said, way_out, message):
    text = message(MINIMAL + line + "\n")
    assert text.startswith("my.yaml:4: ")
    first, shown, hint = text.splitlines()
    assert said in first
    assert shown == f"    4 | {line}"
    assert way_out in hint


@pytest.mark.parametrize(
    ("line", "said", "way_out"),
    [
        (
            "network: {devices: {peak_power: 10 dBm}}",
            "network.devices.peak_power: peak_power 10 dBm is below average_power 20 dBm",
            "raise peak_power",
        ),
        (
            "network: {devices: {min_distance: 100 m}}",
            "network.devices.min_distance: min_distance 100 m is farther than max_distance 60 m",
            "raise max_distance",
        ),
        (
            "network: {devices: {per_edge_server: 200}}",
            "per_edge_server: task 0 has 213 training images, but 200 devices with at least 2 each need 400",
            "take fewer devices",
        ),
        (
            "learning: {adapters: {shared_rank: 0, personal_rank: 0}}",
            "learning.adapters.shared_rank: shared_rank and personal_rank are both 0",
            "give at least one of them a rank",
        ),
        (
            "learning: {data: {training_images: 1000}}",
            "digits holds 1797 images for public_images 300 + training_images 1000 + test_images 700 = 2000",
            "take 203 fewer",
        ),
        (
            "learning: {data: {training_images: all, test_images: all}}",
            "training_images and test_images cannot both be all",
            "write a number for one of the two",
        ),
        (
            "learning: {data: {name: mnist, training_images: 60000, test_images: 20000}}",
            "learning.data.training_images: mnist holds 60000 images",
            "take 300 fewer",
        ),
        (
            "learning: {data: {tasks: [{swap: [3, 3]}]}}",
            "learning.data.tasks.0.swap: [3, 3] swaps a label with itself",
            "two different labels",
        ),
    ],
)
def test_an_impossible_combination_is_said_at_the_field(line, said, way_out, message):
    first, _, hint, *_ = message(MINIMAL + line + "\n").splitlines()
    assert first.startswith("my.yaml:4: ")
    assert said in first
    assert way_out in hint


def test_every_excess_is_said(message):
    said = message(MINIMAL + "learning: {data: {name: mnist, training_images: 60000, test_images: 20000}}\n")
    assert "learning.data.test_images: mnist holds 10000 images for test_images 20000 = 20000" in said


@pytest.mark.parametrize(
    ("channel", "said", "way_out"),
    [
        (
            "{}",
            "neither snr nor path_loss and noise are given",
            "add snr: 20 dB, or path_loss: {} and noise: {}",
        ),
        (
            "{snr: 1 dB, noise: {}}",
            "snr excludes noise",
            "set channel.snr=null; to use snr set channel.noise=null",
        ),
        ("{path_loss: {}}", "channel.path_loss: path_loss is given without noise", "add channel.noise"),
        ("{snr: 1 dB, fading: {model: rician}}", "rician fading needs a k_factor", "add k_factor: 6 dB"),
        (
            "{snr: 1 dB, fading: {k_factor: 6 dB}}",
            "k_factor: rayleigh fading has no k_factor",
            "model: rician",
        ),
    ],
)
def test_channel_fields_that_do_not_go_together_are_refused(channel, said, way_out, message):
    text = message(HEAD + f"channel: {channel}\n")
    assert text.startswith("my.yaml:3: channel.")
    assert said in text
    assert way_out in text


def test_errors_in_a_list_are_said_at_the_item(message):
    tasks = "      - {swap: [1, 7]}\n      - swap: [1, 12]\n        shre: 2\n      - 5\n"
    said = message(MINIMAL + "learning:\n  data:\n    tasks:\n" + tasks)
    assert "my.yaml:8: learning.data.tasks.1.swap.1: 12 is too large\n    8 |       - swap: [1, 12]\n" in said
    assert "my.yaml:9: learning.data.tasks.1.shre: unknown field\n" in said
    assert "my.yaml:10: learning.data.tasks.2: a mapping is expected, not 5\n" in said


def test_what_must_be_there_is_missed(message):
    assert "my.yaml:1: channel: is missing\n" in message(HEAD)
    assert "add a name: the results folder is called after it" in message(
        "schema: airsim/1\nchannel: {snr: 1 dB}\n"
    )
    assert "add schema: airsim/1" in message("name: x\nchannel: {snr: 1 dB}\n")


def test_a_foreign_schema_and_a_name_that_is_no_folder_are_refused(message):
    said = message("schema: airsim/2\nname: my study\nchannel: {snr: 1 dB}\n")
    assert "my.yaml:1: schema: the text 'airsim/2' is not known here" in said
    assert "my.yaml:2: name: 'my study' cannot name a folder" in said
    assert "write for example 'my-study'" in said


def test_a_deleted_field_that_never_was_is_a_misspelling(message):
    said = message(HEAD + "extends: quickstart\nchannel: {pathloss: null}\n")
    assert said.startswith("my.yaml:4: channel.pathloss: unknown field")
    assert "did you mean 'path_loss'?" in said


def test_a_combination_is_said_where_it_was_written_last(message):
    said = message(HEAD + "extends: quickstart\nchannel: {path_loss: {}, noise: {}}\n")
    assert said.startswith("my.yaml:4: channel.path_loss: snr excludes path_loss and noise")


def test_data_from_python_is_checked_in_the_same_words():
    with pytest.raises(ScenarioError, match=r"scenario: channel.snr: 20 has no unit\n *write '20 dB'"):
        Scenario.from_mapping({"schema": "airsim/1", "name": "x", "channel": {"snr": 20}})
