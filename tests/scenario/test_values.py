"""What a scenario holds: SI floats, defaults, derived values."""

import pytest

from airsim.errors import ScenarioError
from airsim.scenario import Scenario, get_path
from optim import quantity

MINIMAL = {"schema": "airsim/1", "name": "test", "channel": {"snr": "20 dB"}}


def scenario(**sections):
    return Scenario.from_mapping({**MINIMAL, **sections})


def test_values_are_si_floats_and_defaults_are_filled_in():
    built = scenario()
    assert built.channel.snr == 100.0
    assert built.channel.bandwidth == 1e6
    assert built.network.devices.average_power == 0.1
    assert built.network.devices.speed == 1e9
    assert built.network.base_station.position == (0.0, 0.0, 10.0)
    assert built.links.downlink_rate == 1e7
    assert built.learning.batch == "full"
    assert [task.swap for task in built.learning.data.tasks] == [(1, 7), (3, 8), (4, 9), (5, 6)]
    assert built.learning.data.partition.concentration == 0.5


def test_there_is_one_edge_server_per_task():
    assert (scenario().num_edge_servers, scenario().num_devices) == (4, 20)
    three = scenario(learning={"data": {"tasks": [{}, {}, {"share": 2}]}})
    assert (three.num_edge_servers, three.num_devices) == (3, 15)


def test_peak_power_is_six_decibels_above_the_average_unless_given():
    by_default = scenario(network={"devices": {"average_power": "17 dBm"}})
    assert by_default.network.devices.peak_power_w == quantity.canonical("23 dBm", quantity.POWER)
    given = scenario(network={"devices": {"peak_power": "20 dBm"}})
    assert given.network.devices.peak_power_w == 0.1


def test_path_loss_and_noise_have_physical_defaults():
    physical = Scenario.from_mapping({**MINIMAL, "channel": {"path_loss": {}, "noise": {}}})
    assert physical.channel.path_loss.reference_gain == pytest.approx(1e-3)
    assert physical.channel.noise.density == pytest.approx(10**-20.4)
    assert physical.channel.noise.figure == pytest.approx(10**0.9)


def test_a_section_written_without_its_kind_has_the_default_kind():
    built = scenario(learning={"model": {"base": {"steps": 7}}, "data": {"partition": {"min_images": 1}}})
    assert (built.learning.model.base.kind, built.learning.model.base.steps) == ("pretrained", 7)
    assert built.learning.data.partition.kind == "dirichlet"


def test_all_images_are_what_the_other_uses_leave():
    digits = scenario(learning={"data": {"training_images": "all"}}).learning.data
    assert digits.training_images is None
    assert digits.max_training_images == 1797 - 300 - 700
    mnist = scenario(learning={"data": {"name": "mnist", "training_images": "all", "test_images": "all"}})
    assert mnist.learning.data.max_training_images == 59_700


def test_a_count_may_be_written_with_an_exponent():
    assert scenario(stop={"rounds": 1e3}).stop.rounds == 1000


def test_a_scenario_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        scenario().seed = 3


def test_a_value_is_found_by_its_key_as_it_is_written():
    assert get_path(scenario(), "channel.snr") == "20 dB"
    assert get_path(scenario(), "network.devices.per_edge_server") == 5
    assert get_path(scenario(), "channel.noise") is None


def test_a_key_that_does_not_exist_is_not_found():
    with pytest.raises(ScenarioError, match=r"unknown field .did you mean 'snr'"):
        get_path(scenario(), "channel.srn")
