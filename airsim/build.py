"""From a scenario to objects: the only place that knows all layers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from airsim import store
from airsim.builders import bases, methods, text_methods, texts
from airsim.builders.costs import gradient_control_reals
from airsim.builders.data import build_data, load_source
from airsim.builders.radio import build_budget, build_uplink
from airsim.builders.rounds import build_assessment, build_draw, build_server_optimiser
from airsim.builders.torch_device import build_torch_device
from airsim.des import Durations, NetworkProfile, OwnWork
from airsim.errors import blaming
from airsim.federation import Federation
from airsim.learn.adapters import AdapterRanks, DualAdapters, initial_adapters
from airsim.learn.cohort import Cohort
from airsim.learn.data.tasks import (
    FederatedData,
)
from airsim.learn.models.base import AbstractModel
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.pretraining import base_checksum
from airsim.method_rounds import MethodEngine, Routes
from airsim.orthogonal import OrthogonalUplink
from airsim.radio import num_symbols, transfer_s
from airsim.randomness import RandomStreams
from airsim.rounds import Learner, RoundEngine
from airsim.scenario import Scenario, locates_errors
from airsim.scenario.aggregation import GRADIENT_METHOD
from airsim.scenario.learning import ImageData
from airsim.scenario.texts import TextData, Transformer
from airsim.uplink import AirCompUplink

FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Simulation:
    """Everything a run needs: the numbers, the actors of the clock, and what identifies the data."""

    engine: RoundEngine | MethodEngine
    profile: NetworkProfile
    data_checksum: str


@locates_errors
def fingerprint(scenario: Scenario) -> str:
    """The name of this scenario's results: equal for equal scenarios on equal data.

    Raises:
        DataError: the data or the base file cannot be read.
    """
    model, data = scenario.learning.model, scenario.learning.data
    if isinstance(model, Transformer):
        with blaming("learning.model.network"):
            base_sum: str | None = texts.network_checksum(model.network)
    else:
        with blaming("learning.model.base.path"):
            base_sum = base_checksum(Path(model.base.path)) if model.base.kind == "file" else None
    if isinstance(data, TextData):
        data_sum = texts.texts_checksum(data)
    else:
        with blaming("learning.data.name"):
            data_sum = load_source(data.name).checksum
    return scenario.fingerprint(data_sum, store.RESULTS_VERSION, base_sum)[:FINGERPRINT_DIGITS]


@locates_errors
def build_simulation(scenario: Scenario) -> Simulation:
    """Objects for one run of this scenario, on the device where torch is to compute.

    Data, base and adapters are moved there once; random numbers are drawn on the CPU, the same for all.

    Raises:
        ScenarioError, DataError: what the scenario asks for cannot be built.
    """
    streams = RandomStreams(scenario.seed)
    device = build_torch_device(scenario)
    data = build_data(scenario, streams).to(device)
    config = scenario.learning.model
    if isinstance(config, Transformer):
        network = texts.build_transformer(text_methods.network_for(scenario, config), data, streams)
        if scenario.aggregation.method != GRADIENT_METHOD:
            return _method_rounds(scenario, data, network, streams)
        adapters = texts.text_adapters(scenario, config, network, len(data.tests), streams)
        return _gradient_rounds(scenario, data, (network, adapters), streams)
    assert isinstance(scenario.learning.data, ImageData)
    plan = bases.base_plan(config, scenario.learning.data)
    model = bases.build_base(config, plan, data, streams).to(device)
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
    learning, (model, adapters) = scenario.learning, (start[0], start[1].to(data.device))
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
    told = gradient_control_reals(scenario, sizes)
    load = DeviceLoad(flops.__getitem__, lambda device: told)
    broadcasts = (lambda round_index: sizes.shared, sizes.personal)
    profile = build_profile(scenario, data.task_of_device, load, broadcasts)
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
    load = DeviceLoad(lambda device: flops(device, engine.rank(device)), engine.control_reals)
    broadcasts = (lambda round_index: engine.broadcast_entries, 0)
    return Simulation(engine, build_profile(scenario, data.task_of_device, load, broadcasts), data.checksum)


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


@dataclass(frozen=True)
class DeviceLoad:
    """What a device does in the round that is about to begin: operations, and numbers that it reports."""

    flops: Callable[[int], int]
    control_reals: Callable[[int], int]


def build_profile(
    scenario: Scenario,
    task_of_device: tuple[int, ...],
    load: DeviceLoad,
    broadcasts: tuple[Callable[[int], int], int],
) -> NetworkProfile:
    """The clock's view: how long each device computes, and how long the digital links take.

    `broadcasts` are real numbers: the base station's by round, and an edge server's to its task.
    """
    devices, links = scenario.network.devices, scenario.links

    def own_work(device: int, round_index: int) -> OwnWork:
        compute_s = load.flops(device) / devices.speed
        report_s = transfer_s(load.control_reals(device), links.control_rate)
        return OwnWork(compute_s, devices.compute_power * compute_s, report_s)

    shared, personal = broadcasts
    return NetworkProfile(
        task_of_device=task_of_device,
        own_work=own_work,
        durations=Durations(
            shared_downlink_s=lambda round_index: transfer_s(shared(round_index), links.downlink_rate),
            personal_downlink_s=transfer_s(personal, links.downlink_rate),
        ),
        participants=build_draw(scenario),
    )
