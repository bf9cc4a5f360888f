"""The name of results: equal for scenarios that decide the same numbers, different otherwise."""

import pytest

from airsim.scenario import Scenario

BARE = {"schema": "airsim/1", "name": "test", "channel": {"snr": "20 dB"}}


def fingerprint(**changes):
    return Scenario.from_mapping({**BARE, **changes}).fingerprint("data", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 0},
        {"network": {"devices": {"average_power": "20 dBm"}}},
        {"network": {"devices": {"average_power": "0.1 W"}}},
        {"network": {"devices": {"average_power": "100 mW", "peak_power": "26 dBm"}}},
        {"channel": {"bandwidth": "1000 kHz", "snr": "20.0 dB"}},
        {"channel": {"fading": {"model": "rayleigh"}, "snr": "20 dB"}},
        {"learning": {"learning_rate": 0.15, "batch": "full"}},
        {"learning": {"model": {"base": {"kind": "pretrained"}}, "adapters": {}}},
        {"learning": {"adapters": {"scale": 1}}},
        {"learning": {"torch_device": "cpu"}},
        {"stop": {"rounds": 3e2}},
        {"name": "another-name"},
        {"sweep": {"grid": {"stop.rounds": [1, 2]}}, "figures": [{"x": "stop.rounds"}]},
    ],
)
def test_what_does_not_change_the_numbers_does_not_change_the_fingerprint(changes):
    assert fingerprint(**changes) == fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"channel": {"snr": "20.1 dB"}},
        {"network": {"devices": {"peak_power": "25 dBm"}}},
        {"learning": {"learning_rate": 0.150001}},
        {"learning": {"model": {"base": {"kind": "random"}}}},
        {"learning": {"data": {"tasks": [{}, {}]}}},
        {"learning": {"torch_device": "cuda"}},
        {"record": {"evaluate_every": 20}},
    ],
)
def test_what_changes_the_numbers_changes_the_fingerprint(changes):
    assert fingerprint(**changes) != fingerprint()


def test_the_kind_of_a_device_decides_bits_and_its_number_does_not():
    names = {name: fingerprint(learning={"torch_device": name}) for name in ("cuda", "cuda:1", "xpu")}
    assert names["cuda"] == names["cuda:1"] != names["xpu"]


def test_the_order_of_fields_is_irrelevant():
    turned = {key: BARE[key] for key in reversed(BARE)}
    assert Scenario.from_mapping(turned).fingerprint("data", 1) == fingerprint()


def test_data_and_results_version_are_part_of_it():
    scenario = Scenario.from_mapping(BARE)
    names = {
        scenario.fingerprint("data", 1),
        scenario.fingerprint("other", 1),
        scenario.fingerprint("data", 2),
    }
    assert len(names) == 3


def test_a_base_file_is_named_by_its_content_and_not_by_its_path():
    def with_base(path, checksum):
        base = {"kind": "file", "path": path}
        return Scenario.from_mapping({**BARE, "learning": {"model": {"base": base}}}).fingerprint(
            "data", 1, checksum
        )

    assert with_base("a.safetensors", "one") == with_base("b/c.safetensors", "one")
    assert with_base("a.safetensors", "one") != with_base("a.safetensors", "two")
    with pytest.raises(ValueError, match="base_checksum is None"):
        with_base("a.safetensors", None)


def test_equal_scenarios_are_equal_however_they_were_written():
    written_out = {
        **BARE,
        "seed": 0,
        "stop": {"rounds": 300},
        "network": {"devices": {"average_power": "0.1 W"}},
    }
    assert Scenario.from_mapping(written_out) == Scenario.from_mapping(BARE)
