"""From a scenario to the air: where everything stands, the links between, and the uplink over them."""

import numpy as np

from airsim.channel import (
    AbstractFading,
    ChannelModel,
    DiscPlacement,
    LogDistance,
    Rayleigh,
    Rician,
    Topology,
    angles_rad,
    distances_m,
    place_network,
    thermal_noise_w,
)
from airsim.errors import ScenarioError, blaming
from airsim.federation import Federation
from airsim.radio import AbstractNormalisation, Common, PerDevice, RootMeanSquare
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario
from airsim.uplink import (
    AbstractUplink,
    AirCompUplink,
    ErrorFreeUplink,
    RadioBudget,
    TransceiverDesigner,
    antenna_level,
    scalar_gains,
)

NORMALISATIONS: dict[str, AbstractNormalisation] = {
    "per-device": PerDevice(),
    "common": Common(),
    "rms": RootMeanSquare(),
}
AIRS = {"effective": scalar_gains, "antenna": antenna_level}


def build_topology(scenario: Scenario, streams: RandomStreams) -> Topology:
    """Where everything stands."""
    network = scenario.network
    placement = DiscPlacement(
        base_station_m=network.base_station.position,
        ring_radius_m=network.edge_servers.ring_radius,
        edge_server_height_m=network.edge_servers.height,
        device_height_m=network.devices.height,
        min_distance_m=network.devices.min_distance,
        max_distance_m=network.devices.max_distance,
    )
    return place_network(
        placement, scenario.num_edge_servers, network.devices.per_edge_server, streams.generator("placement")
    )


def noise_power_w(scenario: Scenario) -> float:
    """Noise of one receive antenna: thermal, or what makes the mean receive SNR the one that is given."""
    channel = scenario.channel
    if channel.noise is not None:
        return thermal_noise_w(channel.bandwidth, channel.noise.density, channel.noise.figure)
    if channel.snr is not None:
        return scenario.network.devices.average_power / channel.snr
    raise ScenarioError("channel: neither snr nor noise is given")


def build_channels(scenario: Scenario, topology: Topology, streams: RandomStreams) -> list[ChannelModel]:
    """Links to the base station (all devices), then to every edge server (its own devices)."""
    network, config = scenario.network, scenario.channel
    k_factor = config.fading.k_factor
    fading: AbstractFading = Rayleigh() if k_factor is None else Rician(k_factor)
    everybody = list(range(len(topology.task_of_device)))
    receivers = [(topology.base_station_m, everybody, network.base_station.antennas)]
    for task, position_m in enumerate(topology.edge_servers_m):
        receivers.append((position_m, topology.members(task), network.edge_servers.antennas))
    models = []
    for index, (position_m, members, antennas) in enumerate(receivers):
        devices_m = topology.devices_m[members]
        gain = np.ones(len(members))
        if config.path_loss is not None:
            law = config.path_loss
            exponent = law.exponent_edge_server if index else law.exponent_base_station
            gain = _path_gain(LogDistance(law.reference_gain, exponent), distances_m(position_m, devices_m))
        models.append(ChannelModel(index, antennas, gain, angles_rad(position_m, devices_m), fading, streams))
    return models


def _path_gain(law: LogDistance, distance_m: np.ndarray) -> np.ndarray:
    with blaming(
        "network.devices.min_distance",
        "network.devices.height",
        "network.edge_servers.height",
        "network.base_station.position",
    ):
        try:
            return law.gain(distance_m)
        except ValueError as error:
            raise ScenarioError(str(error)) from error


def build_budget(scenario: Scenario) -> RadioBudget:
    """Powers, noise and bandwidth that all links share."""
    devices = scenario.network.devices
    return RadioBudget(
        average_power_w=devices.average_power,
        peak_power_w=devices.peak_power_w,
        noise_power_w=noise_power_w(scenario),
        bandwidth_hz=scenario.channel.bandwidth,
    )


def build_uplink(scenario: Scenario, federation: Federation, streams: RandomStreams) -> AbstractUplink:
    """How payloads come together."""
    rule = NORMALISATIONS[scenario.uplink.normalisation]
    if scenario.uplink.mode == "error-free":
        return ErrorFreeUplink(federation, rule)
    allocation = scenario.allocation
    return AirCompUplink(
        federation=federation,
        normalisation=rule,
        channels=build_channels(scenario, build_topology(scenario, streams), streams),
        budget=build_budget(scenario),
        designer=TransceiverDesigner(
            allocation.method, allocation.starts, allocation.max_iterations, allocation.misalignment_weight
        ),
        air=AIRS[scenario.uplink.air],
    )
