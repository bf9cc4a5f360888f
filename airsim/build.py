"""From a scenario to objects: the only place that knows all layers."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from airsim import store
from airsim.builders import bases, methods, texts
from airsim.builders.costs import RoundCosts, round_costs
from airsim.builders.partitions import build_partition
from airsim.builders.rounds import build_assessment, build_draw, build_server_optimiser
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
from airsim.des import Durations, NetworkProfile
from airsim.errors import ScenarioError
from airsim.learn.adapters import AdapterRanks, DualAdapters, initial_adapters, payload_size
from airsim.learn.cohort import Cohort
from airsim.learn.data.sources import ImageSource, load_digits, load_mnist
from airsim.learn.data.tasks import (
    FederatedData,
    FederationPlan,
    SplitSizes,
    TaskSpec,
    build_federated_data,
)
from airsim.learn.models.base import AbstractModel
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.pretraining import base_checksum, random_base
from airsim.method_rounds import MethodEngine, Routes
from airsim.orthogonal import OrthogonalUplink
from airsim.radio import AbstractNormalisation, Common, PerDevice, RootMeanSquare, num_symbols, transfer_s
from airsim.randomness import RandomStreams
from airsim.rounds import Learner, RoundEngine
from airsim.scenario import Scenario
from airsim.scenario.aggregation import GRADIENT_METHOD
from airsim.scenario.learning import ImageData
from airsim.scenario.texts import TextData, Transformer
from airsim.uplink import (
    AbstractUplink,
    AirCompUplink,
    ErrorFreeUplink,
    Federation,
    RadioBudget,
    TransceiverDesigner,
    antenna_level,
    scalar_gains,
)

FINGERPRINT_DIGITS = 16
STATISTICS_FLOATS = 4  # mean and deviation of both payloads of a device

NORMALISATIONS: dict[str, AbstractNormalisation] = {
    "per-device": PerDevice(),
    "common": Common(),
    "rms": RootMeanSquare(),
}
AIRS = {"effective": scalar_gains, "antenna": antenna_level}


@dataclass(frozen=True)
class Simulation:
    """Everything a run needs: the numbers, the actors of the clock, and what identifies the data."""

    engine: RoundEngine | MethodEngine
    profile: NetworkProfile
    data_checksum: str


def fingerprint(scenario: Scenario) -> str:
    """The name of this scenario's results: equal for equal scenarios on equal data.

    Raises:
        DataError: the data or the base file cannot be read.
    """
    model, data = scenario.learning.model, scenario.learning.data
    if isinstance(model, Transformer):
        base_sum: str | None = texts.network_checksum(model.network)
    else:
        base_sum = base_checksum(Path(model.base.path)) if model.base.kind == "file" else None
    data_sum = texts.texts_checksum(data) if isinstance(data, TextData) else load_source(data.name).checksum
    return scenario.fingerprint(data_sum, store.RESULTS_VERSION, base_sum)[:FINGERPRINT_DIGITS]


def build_simulation(scenario: Scenario) -> Simulation:
    """Objects for one run of this scenario.

    Raises:
        ScenarioError, DataError: what the scenario asks for cannot be built.
    """
    streams = RandomStreams(scenario.seed)
    data = build_data(scenario, streams)
    config = scenario.learning.model
    if isinstance(config, Transformer):
        network = texts.build_transformer(config, data, streams)
        if scenario.aggregation.method != GRADIENT_METHOD:
            return _method_rounds(scenario, data, network, streams)
        adapters = texts.text_adapters(scenario, config, network, len(data.tests), streams)
        return _gradient_rounds(scenario, data, (network, adapters), streams)
    assert isinstance(scenario.learning.data, ImageData)
    model = bases.build_base(config, bases.base_plan(config, scenario.learning.data), data, streams)
    if scenario.aggregation.method != GRADIENT_METHOD:
        return _method_rounds(scenario, data, model, streams)
    own = scenario.learning.adapters
    ranks = AdapterRanks(own.shared_rank, own.personal_rank)
    adapters = initial_adapters(model.layer_shapes, len(data.tests), ranks, own.init_scale, streams)
    return _gradient_rounds(scenario, data, (model, adapters), streams)


def _gradient_rounds(
    scenario: Scenario, data: FederatedData, start: tuple[AbstractModel, DualAdapters], streams: RandomStreams
) -> Simulation:
    """One gradient per device and round, of a shared and a personal adapter."""
    learning, (model, adapters) = scenario.learning, start
    ranks = AdapterRanks(learning.adapters.shared_rank, learning.adapters.personal_rank)
    cohort = Cohort(data, learning.batch, streams, learning.learning_rate)
    operator = AirPFedLoRA(learning.learning_rate, build_server_optimiser(scenario))
    sizes = operator.payload_sizes(adapters)
    federation = _federation(data, ranks, (num_symbols(sizes.shared), num_symbols(sizes.personal)))
    if adapters.has_trained_heads:
        federation = replace(federation, entries=(sizes.shared, sizes.personal))
    engine = RoundEngine(
        Learner(model, cohort, operator, learning.adapters.scale, build_assessment(scenario, data)),
        build_uplink(scenario, federation, streams),
        federation,
        adapters,
        scenario.channel.bandwidth,
        streams,
    )
    flops = [
        cohort.samples_per_round(k) * model.flops_per_sample(sum(ranks)) for k in range(cohort.num_devices)
    ]
    broadcasts = (lambda round_index: sizes.shared, sizes.personal)
    profile = build_profile(scenario, data.task_of_device, flops, broadcasts)
    return Simulation(engine, profile, data.checksum)


def _method_rounds(
    scenario: Scenario, data: FederatedData, model: AbstractModel, streams: RandomStreams
) -> Simulation:
    """Any number of local steps, and what the method sends of their outcome."""
    federation = _federation(data, AdapterRanks(max(scenario.learning.adapters.shared_rank, 1), 0), (0, 0))
    superposed = build_uplink(scenario, federation, streams)
    orthogonal = OrthogonalUplink(
        superposed.normalisation,
        build_budget(scenario),
        scenario.allocation.misalignment_weight,
        superposed.channels[0] if isinstance(superposed, AirCompUplink) else None,
    )
    learner = methods.build_learner(scenario, data, model, streams)
    bandwidth_hz, routes = scenario.channel.bandwidth, Routes(superposed, orthogonal)
    assessment = build_assessment(scenario, data)
    engine = MethodEngine(learner, routes, federation, bandwidth_hz, streams, assessment)
    flops = methods.local_flops(scenario, data, model)
    broadcasts = (lambda round_index: engine.broadcast_entries, 0)
    return Simulation(engine, build_profile(scenario, data.task_of_device, flops, broadcasts), data.checksum)


def _federation(data: FederatedData, ranks: AdapterRanks, symbols: tuple[int, int]) -> Federation:
    """Who learns what."""
    return Federation(
        members=tuple(
            tuple(device for device, own in enumerate(data.task_of_device) if own == task)
            for task in range(len(data.tests))
        ),
        data_sizes=np.array([split.size for split in data.devices], dtype=float),
        rank_shared=ranks.shared,
        rank_personal=ranks.personal,
        symbols_shared=symbols[0],
        symbols_personal=symbols[1],
    )


@functools.cache
def load_source(name: str) -> ImageSource:
    """A data set by name; MNIST from `AIRSIM_DATA_DIR` if that is set, or downloaded once."""
    if name == "digits":
        return load_digits()
    folder = os.environ.get("AIRSIM_DATA_DIR")
    return load_mnist(Path(folder) if folder else None)


def method_costs(scenario: Scenario) -> RoundCosts:
    """What a round costs with a method that trains between uploads; no base is pretrained for it."""
    streams = RandomStreams(scenario.seed)
    data, config = build_data(scenario, streams), scenario.learning.model
    if isinstance(config, Transformer):
        lazy = config.model_copy(update={"keep_lower_layers": False})
        model: AbstractModel = texts.build_transformer(lazy, data, streams)
    else:
        assert isinstance(scenario.learning.data, ImageData)
        model = random_base(bases.base_plan(config, scenario.learning.data), streams)
    learner = methods.build_learner(scenario, data, model, streams)
    draw = build_draw(scenario)
    participants = range(scenario.num_devices) if draw is None else draw(0)
    return round_costs(learner, [split.size for split in data.devices], participants)


def adapter_sizes(scenario: Scenario) -> tuple[int, int]:
    """Real entries of the shared and of a personal payload: ``(I + O) R`` summed over the layers.

    Trained heads count among the personal entries; a network has to be loaded to know them.
    """
    config = scenario.learning.model
    if isinstance(config, Transformer):
        streams = RandomStreams(scenario.seed)
        data = build_data(scenario, streams)
        lazy = config.model_copy(update={"keep_lower_layers": False})
        network = texts.build_transformer(lazy, data, streams)
        adapters = texts.text_adapters(scenario, config, network, len(data.tests), streams)
        return payload_size(adapters.shared), payload_size(adapters.personal)
    own = scenario.learning.adapters
    assert isinstance(scenario.learning.data, ImageData)
    plan = bases.base_plan(config, scenario.learning.data)
    ends = sum(sum(shape) for shape in plan.adapted_shapes.values())
    return ends * own.shared_rank, ends * own.personal_rank


def build_data(scenario: Scenario, streams: RandomStreams) -> FederatedData:
    """Every device's samples, the public split and the test sets."""
    config = scenario.learning.data
    if isinstance(config, TextData):
        return texts.build_texts(scenario, config, streams)
    plan = FederationPlan(
        tasks=tuple(TaskSpec(task.swap, task.share) for task in config.tasks),
        devices_per_task=scenario.network.devices.per_edge_server,
        sizes=SplitSizes(config.public_images, config.training_images, config.test_images),
        camera=config.camera,
        partition=build_partition(config.partition),
    )
    return build_federated_data(load_source(config.name), plan, streams)


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
    try:
        return law.gain(distance_m)
    except ValueError as error:
        raise ScenarioError(f"network: {error}") from error


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


def build_profile(
    scenario: Scenario,
    task_of_device: tuple[int, ...],
    flops: list[int],
    broadcasts: tuple[Callable[[int], int], int],
) -> NetworkProfile:
    """The clock's view: how long each device computes, and how long the digital links take.

    `broadcasts` are real numbers: the base station's by round, and an edge server's to its task.
    """
    devices, links = scenario.network.devices, scenario.links
    compute_s = [work / devices.speed for work in flops]
    shared, personal = broadcasts
    return NetworkProfile(
        task_of_device=task_of_device,
        compute_s=compute_s,
        compute_energy_j=[devices.compute_power * seconds for seconds in compute_s],
        durations=Durations(
            shared_downlink_s=lambda round_index: transfer_s(shared(round_index), links.downlink_rate),
            personal_downlink_s=transfer_s(personal, links.downlink_rate),
            statistics_s=transfer_s(STATISTICS_FLOATS, links.control_rate),
        ),
        participants=build_draw(scenario),
    )
