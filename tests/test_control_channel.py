"""The control channel: what devices tell there is what the clock charges, method by method."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch

from airsim import Scenario
from airsim.build import build_simulation
from airsim.builders.costs import gradient_control_reals
from airsim.builders.radio import NORMALISATIONS
from airsim.des import run_rounds
from airsim.learn.federated.adapters import AdapterLearner
from airsim.scenario.aggregation import FULL_MODEL_METHODS, GRADIENT_METHOD, MethodName

AVERAGING = tuple(name for name in get_args(MethodName) if name != GRADIENT_METHOD)
FREE = {"uplink__mode": "error-free", "uplink__nonlinear": "orthogonal"}
SMALL = {"learning__adapters__personal_rank": 0, "learning__training__steps": 3, "learning__batch": 8}


def simulation_of(scenario, method, **changes):
    return build_simulation(scenario(aggregation__method=method, **FREE | SMALL | changes))


def told_floats(simulation, device, round_index=0):
    links = Scenario.load("quickstart").links
    return simulation.profile.own_work(device, round_index).statistics_s * links.control_rate / 32


def played(engine, rounds=1, present=range(8)):
    for index in range(rounds):
        engine.begin(index, present)
        engine.finish(index)
    return engine


@pytest.mark.parametrize("name, rule", NORMALISATIONS.items())
def test_a_normalisation_counts_the_statistics_that_it_takes_from_a_payload(name, rule):
    payload = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)) + 1
    found = rule.statistics(payload)
    used = [values for values in (found.offset, found.scale) if np.any(values != 0)]
    assert rule.reals == len(used)


@pytest.mark.parametrize("method", AVERAGING)
def test_a_report_takes_as_long_as_the_numbers_of_payload_and_method_that_are_told(scenario, method):
    changes = {"aggregation__budget": 2} if method == "lora-a2" else {}
    simulation = simulation_of(scenario, method, **changes)
    sent = simulation.engine.learner.train(simulation.engine.state, 0).sent
    told = [told_floats(simulation, device) for device in range(8)]
    np.testing.assert_allclose(told, 2 + sent.control_reals)
    layers = len(simulation.engine.named_tensors()) // 2
    own = {"hetlora": 2, "lora-a2": 2 * layers}.get(method, 0)
    np.testing.assert_allclose(told, 2 + own)


@pytest.mark.parametrize("normalisation, reals", [("per-device", 2), ("common", 2), ("rms", 1)])
def test_a_payload_without_a_mean_has_one_number_less_to_tell(scenario, normalisation, reals):
    simulation = simulation_of(scenario, "ps", uplink__normalisation=normalisation)
    assert told_floats(simulation, 0) == pytest.approx(reals)
    config = scenario(uplink__normalisation=normalisation)
    assert gradient_control_reals(config, (10, 10)) == 2 * reals
    assert gradient_control_reals(config, (10, 0)) == reals


@pytest.mark.parametrize("ranks, payloads", [((3, 2), 2), ((3, 0), 1), ((0, 2), 1)])
def test_gradients_tell_the_statistics_of_the_payloads_that_they_have(scenario, ranks, payloads):
    shared, personal = ranks
    config = scenario(learning__adapters__shared_rank=shared, learning__adapters__personal_rank=personal)
    simulation = build_simulation(config)
    statistics = simulation.engine.learner.gradients(simulation.engine.adapters, 0, range(8))
    sizes = {(chunk.shared.shape[1] > 0, chunk.personal.shape[1] > 0) for chunk in statistics}
    assert sizes == {(shared > 0, personal > 0)}
    assert told_floats(simulation, 0) == pytest.approx(2 * payloads)


def test_devices_take_turns_on_the_control_channel_for_what_each_tells(scenario):
    config, spans = scenario(aggregation__method="hetlora", **FREE | SMALL), []
    simulation = build_simulation(config)
    run_rounds(simulation.profile, simulation.engine, 1, lambda record: spans.extend(record.spans))
    reports = sorted((s for s in spans if s.phase == "statistics"), key=lambda span: span.start_s)
    assert len(reports) == 8
    assert all(before.stop_s <= after.start_s for before, after in itertools.pairwise(reports))
    for span in reports:
        assert span.stop_s - span.start_s == pytest.approx(4 * 32 / config.links.control_rate)


def test_computing_follows_the_ranks_that_hetlora_has_left(scenario):
    tails = {"aggregation__kept_share": 0.5, "aggregation__tail_weight": 2.0}
    simulation = simulation_of(scenario, "hetlora", **tails)
    before = [simulation.profile.own_work(device, 0).compute_s for device in range(8)]
    engine = played(simulation.engine, 3)
    assert isinstance(engine.learner, AdapterLearner)
    ranks = engine.state.held.ranks
    assert bool((ranks < 6).any())
    model, speed = engine.learner.initial.model, Scenario.load("quickstart").network.devices.speed
    for device, rank in enumerate(ranks.tolist()):
        work = simulation.profile.own_work(device, 3)
        saved = model.flops_per_sample(6) - model.flops_per_sample(rank)
        samples = 3 * min(8, engine.learner.data.devices[device].size)
        assert before[device] - work.compute_s == pytest.approx(saved * samples / speed)
        assert work.compute_energy_j / work.compute_s == pytest.approx(
            Scenario.load("quickstart").network.devices.compute_power
        )


@pytest.mark.parametrize("method", ["ps", *FULL_MODEL_METHODS[:1]])
def test_computing_of_methods_that_keep_their_ranks_is_the_same_in_every_round(scenario, method):
    simulation = simulation_of(scenario, method)
    first = [simulation.profile.own_work(device, 0) for device in range(8)]
    played(simulation.engine, 2)
    assert [simulation.profile.own_work(device, 2) for device in range(8)] == first
