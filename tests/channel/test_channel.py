"""Channels against the laws they are drawn from."""

import numpy as np
import pytest

from airsim.channel import (
    ChannelModel,
    DiscPlacement,
    LogDistance,
    Rayleigh,
    Rician,
    angles_rad,
    distances_m,
    place_network,
    thermal_noise_w,
)
from airsim.channel.fading import steering_vector
from airsim.randomness import RandomStreams

PLACEMENT = DiscPlacement((0.0, 0.0, 10.0), 150.0, 10.0, 1.5, 20.0, 60.0)
FADINGS = [Rayleigh(), Rician(k_factor=4.0)]


def model(fading=FADINGS[0], num_devices=5, antennas=8, path_gain=None, seed=3):
    gain = np.ones(num_devices) if path_gain is None else path_gain
    angle = np.linspace(-1, 1, num_devices)
    return ChannelModel(1, antennas, gain, angle, fading, RandomStreams(seed))


def blocks(channel_model, count):
    return np.stack([channel_model.realise(block).response for block in range(count)])  # T K N


@pytest.mark.parametrize("fading", FADINGS, ids=lambda fading: type(fading).__name__)
def test_fading_has_the_path_gain_as_mean_power_on_every_antenna(fading):
    gain = np.array([1.0, 1e-3, 1e-10])
    power = np.abs(blocks(model(fading, 3, path_gain=gain), 4000)) ** 2
    np.testing.assert_allclose(power.mean(axis=(0, 2)), gain, rtol=0.03)


def test_rayleigh_antennas_and_devices_are_uncorrelated():
    h = blocks(model(), 4000).reshape(4000, -1)
    correlation = h.T @ h.conj() / 4000
    assert np.abs(correlation - np.eye(h.shape[1])).max() < 0.1


def test_rician_keeps_its_share_of_power_in_the_line_of_sight_direction():
    channel_model = model(Rician(k_factor=4.0))
    direction = steering_vector(channel_model.angle_rad, 8) / np.sqrt(8)
    h = blocks(channel_model, 4000)
    along = (np.abs(np.einsum("tkn,kn->tk", h, direction.conj())) ** 2).mean(axis=0)
    # N K/(K+1) of the fixed path and 1/(K+1) of the scattered one fall into one direction.
    np.testing.assert_allclose(along, 8 * 0.8 + 0.2, rtol=0.03)


def test_a_block_depends_on_its_number_and_not_on_earlier_draws():
    fresh, used = model(), model()
    used.realise(0)
    np.testing.assert_array_equal(fresh.realise(7).response, used.realise(7).response)
    assert not np.allclose(fresh.realise(7).response, fresh.realise(8).response)


def test_perfect_csi_estimates_the_response():
    state = model().realise(0)
    np.testing.assert_array_equal(state.estimate, state.response)


def test_devices_stand_in_their_annulus_and_servers_on_the_ring():
    topology = place_network(PLACEMENT, 4, 500, np.random.default_rng(1))
    assert topology.task_of_device == tuple(np.repeat(range(4), 500))
    np.testing.assert_allclose(np.linalg.norm(topology.edge_servers_m[:, :2], axis=1), 150.0)
    for task in range(4):
        own = topology.devices_m[topology.members(task)] - topology.edge_servers_m[task]
        radius = np.linalg.norm(own[:, :2], axis=1)
        assert radius.min() >= 20 and radius.max() <= 60
        assert (radius**2).mean() == pytest.approx((20**2 + 60**2) / 2, rel=0.05)  # uniform in area


def test_distances_count_the_heights_and_angles_are_azimuths():
    devices = np.array([[3.0, 4.0, 10.0], [0.0, 1.0, -2.0]])
    np.testing.assert_allclose(distances_m(np.array([0.0, 0.0, -2.0]), devices), [13.0, 1.0])
    np.testing.assert_allclose(angles_rad(np.zeros(3), devices), [np.arctan2(4, 3), np.pi / 2])


def test_path_loss_falls_by_its_exponent_per_decade():
    law = LogDistance(reference_gain=1e-3, exponent=2.8)
    np.testing.assert_allclose(law.gain(np.array([1.0, 10.0, 100.0])), [1e-3, 10**-5.8, 10**-8.6])


def test_a_device_within_one_metre_is_refused():
    with pytest.raises(ValueError, match=r"device 1 stands 0\.5 m from a receiver.*starts at 1 m"):
        LogDistance(1e-3, 2.8).gain(np.array([5.0, 0.5]))


def test_thermal_noise_of_one_megahertz_at_nine_decibels_is_minus_105_dbm():
    density_w_per_hz, figure = 10 ** (-20.4), 10**0.9
    assert 10 * np.log10(thermal_noise_w(1e6, density_w_per_hz, figure)) + 30 == pytest.approx(-105.0)


def test_streams_are_addressed_by_name_and_index():
    streams = RandomStreams(5)
    draw = streams.generator("fading", 1, 2).random(3)
    np.testing.assert_array_equal(draw, RandomStreams(5).generator("fading", 1, 2).random(3))
    for other in (
        streams.generator("fading", 2, 1),
        streams.generator("noise", 1, 2),
        RandomStreams(6).generator("fading", 1, 2),
    ):
        assert not np.allclose(draw, other.random(3))
