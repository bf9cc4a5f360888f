"""Rounds of every aggregation method: what arrives, what it costs, and what is refused."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from airsim import Scenario
from airsim.build import build_simulation
from airsim.builders.costs import method_costs
from airsim.errors import DivergenceError, ScenarioError, UntrainedError
from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.base import OnAir, aggregate
from airsim.learn.operators.catalogue import METHODS
from airsim.learn.operators.factor_averaging import HetLoRA, tail_penalty
from airsim.scenario.aggregation import (
    DENSE_METHODS,
    FULL_MODEL_METHODS,
    GRADIENT_METHOD,
    MIXED_RANK_METHODS,
    NONLINEAR_METHODS,
    MethodName,
)

NAMES = get_args(MethodName)
AVERAGING = tuple(name for name in NAMES if name != GRADIENT_METHOD)


def engine_of(scenario, method, **changes):
    """The engine of a method on the small scenario, every payload without error unless told otherwise."""
    return simulation_of(scenario, method, **changes).engine


def simulation_of(scenario, method, **changes):
    """The engine, and the clock's view of it."""
    return build_simulation(small(scenario, method, **changes))


def small(scenario, method, **changes):
    """The scenario of both."""
    free = {"uplink__mode": "error-free", "uplink__nonlinear": "orthogonal"}
    fixed = {"learning__adapters__personal_rank": 0, "learning__training__steps": 3, "learning__batch": 8}
    return scenario(aggregation__method=method, **free | fixed | changes)


def played(engine, rounds=1):
    for index in range(rounds):
        engine.begin(index, range(8))
        engine.finish(index)
    return engine


def test_scenarios_and_the_catalogue_name_the_same_methods_with_the_same_on_air_class():
    assert set(NAMES) == set(METHODS)
    nonlinear = {name for name, method in METHODS.items() if method.on_air is OnAir.NONLINEAR}
    assert set(NONLINEAR_METHODS) == nonlinear
    mixed = {name for name in AVERAGING if METHODS[name].mixed_ranks not in ("refused", "has no ranks")}
    assert mixed == set(MIXED_RANK_METHODS)


@pytest.mark.parametrize("method", AVERAGING)
def test_a_round_without_errors_is_the_operators_own_aggregation(scenario, method):
    engine = engine_of(scenario, method)
    engine.begin(0, range(8))
    local = engine.learner.train(engine.state, 0)
    exact = engine.learner.merge(engine.state, local, _ideal(engine.learner.operator, local))
    engine.finish(0)
    arrived, wanted = engine.named_tensors(), engine.learner.named_tensors(exact)
    assert arrived.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(arrived[name], tensor, rtol=1e-4, atol=1e-5)


def _ideal(operator, local):
    if operator.on_air is OnAir.NONLINEAR:
        return local.sent.payload
    return local.weights.to(local.sent.payload.dtype) @ local.sent.payload


@pytest.mark.parametrize("method", AVERAGING)
def test_channel_uses_are_half_the_real_numbers_that_travel(scenario, method):
    engine = engine_of(scenario, method)
    airtime = engine.begin(0, range(8))
    sent = engine.learner.train(engine.state, 0).sent
    if method in NONLINEAR_METHODS:
        uses = int(((sent.upload_reals + 1) // 2).sum())
    else:
        uses = (sent.payload.shape[1] + 1) // 2
    assert engine.channel_uses == uses
    assert airtime.shared_s == pytest.approx(uses / 1e6)
    assert airtime.personal_s == 0


@pytest.mark.parametrize("method", AVERAGING)
def test_the_broadcast_of_a_round_takes_as_long_as_the_tensors_that_the_last_one_ended_with(scenario, method):
    simulation = simulation_of(scenario, method)
    engine, seconds = simulation.engine, simulation.profile.durations.shared_downlink_s
    held = engine.state.held
    start = held.parameters if method in FULL_MODEL_METHODS else held.layers
    begun = sum(tensor[0].numel() for part in start.values() for tensor in _tensors(part))
    second_per_entry = 32 / Scenario.load("quickstart").links.downlink_rate
    assert seconds(0) == pytest.approx((1 + (method == "scaffold")) * begun * second_per_entry)
    engine.begin(0, range(8))
    local = engine.learner.train(engine.state, 0)
    operator = engine.learner.operator
    update = operator.decode(_ideal(operator, local), local.view)
    engine.finish(0)
    sent = sum(tensor.numel() for tensor in operator.on_downlink(update, local.view, 6).values())
    assert seconds(1) == pytest.approx(sent * second_per_entry)
    if method not in FULL_MODEL_METHODS:
        assert sent == expected_broadcast(method, engine.learner.initial.model.layer_shapes.values())


@pytest.mark.parametrize("method", ["rolora", "hetlora", "lora-a2", "flora", "fedinc", "fedavg", "scaffold"])
def test_what_a_check_counts_is_what_a_round_takes_and_broadcasts(scenario, method):
    engine, costs = engine_of(scenario, method), method_costs(small(scenario, method))
    assert costs.first_broadcast == engine.broadcast_entries
    played(engine)
    assert (costs.channel_uses, costs.broadcast) == (engine.channel_uses, engine.broadcast_entries)
    assert costs.control_reals == sum(map(engine.control_reals, range(8)))


def test_moon_computes_two_forward_passes_more_than_fedavg(scenario):
    learner = simulation_of(scenario, "moon").engine.learner
    model, samples = learner.base, np.array([3 * min(8, split.size) for split in learner.data.devices])
    profiles = [simulation_of(scenario, method).profile for method in ("fedavg", "moon")]
    seconds = [[profile.own_work(device, 0).compute_s for device in range(8)] for profile in profiles]
    passes = 2 * 2 * sum(x.numel() for name, x in model.parameters.items() if name.endswith(".weight"))
    speed = Scenario.load("quickstart").network.devices.speed
    extra = np.array(seconds[1]) - np.array(seconds[0])
    np.testing.assert_allclose(extra, passes * samples / speed)


def _tensors(part):
    return (part,) if isinstance(part, torch.Tensor) else (part.a, part.b)


def expected_broadcast(method, shapes, rank=6, devices=8, clusters=2):
    """The catalogue's costs in round 0: FLoRA's stack of all devices, FedInc's adapter per cluster, ..."""
    ends = rank * sum(shape.inputs + shape.outputs for shape in shapes)
    if method in ("ffa-lora", "rolora", "lora-a2"):
        return rank * sum(shape.outputs for shape in shapes)
    if method == "fedsa-lora":
        return rank * sum(shape.inputs for shape in shapes)
    if method == "colr":
        return rank * sum(max(shape) for shape in shapes)
    if method == "fedex-lora":
        residuals = [(devices - 1) * rank * (shape.inputs + shape.outputs) for shape in shapes]
        return ends + sum(min(s.inputs * s.outputs, r) for s, r in zip(shapes, residuals, strict=True))
    return ends * {"flora": devices, "fedinc": clusters}.get(method, 1)


@pytest.mark.parametrize("method", DENSE_METHODS)
def test_dense_products_are_one_sum_of_full_matrices(scenario, method):
    engine = engine_of(scenario, method, uplink__nonlinear="dense")
    engine.begin(0, range(8))
    shapes = engine.learner.initial.model.layer_shapes.values()
    entries = sum(shape.inputs * shape.outputs for shape in shapes)
    factors = sum(6 * (shape.inputs + shape.outputs) for shape in shapes)
    assert engine.channel_uses >= (entries + 1) // 2
    assert engine.channel_uses <= (entries + factors + 1) // 2  # repairs send the factors' means as well


@pytest.mark.parametrize("method", ["flexlora", "fedinc"])
def test_errors_of_single_uploads_are_as_predicted(scenario, method):
    predicted, realised = [], []
    for seed in range(25):
        engine = engine_of(scenario, method, uplink__mode="aircomp", channel__snr="0 dB", seed=seed)
        played(engine)
        predicted.append(engine.metrics["pi_predicted"])
        realised.append(engine.metrics["pi_realised"])
    assert np.sum(realised) == pytest.approx(np.sum(predicted), rel=0.1)


def test_a_device_sends_in_its_own_share_with_the_energy_of_the_round(scenario):
    engine = engine_of(scenario, "flexlora", uplink__mode="aircomp", channel__snr="-20 dB")
    airtime = engine.begin(0, range(8))
    budget = Scenario.load("quickstart").network.devices.average_power * airtime.shared_s
    energies = np.array(airtime.shared_energy_j)
    assert (energies <= budget * (1 + 1e-9)).all()
    assert energies.max() > 0.2 * budget  # the peak limit, 6 dB above the average, allows half of it


@pytest.mark.parametrize("method", AVERAGING)
def test_every_method_learns_over_the_air_with_finite_numbers(scenario, method):
    engine = played(engine_of(scenario, method, uplink__mode="aircomp", learning__learning_rate=0.02), 3)
    metrics = engine.metrics | engine.evaluate()
    for name in ("loss", "pi_predicted", "pi_realised", "relative_error_shared", "accuracy", "test_loss"):
        assert np.isfinite(metrics[name])


@pytest.mark.parametrize("method", MIXED_RANK_METHODS)
def test_devices_of_different_ranks_keep_theirs(scenario, method):
    changes = {"learning__adapters__device_ranks": [1, 3, 6], "learning__adapters__alpha": 4.0}
    engine = played(engine_of(scenario, method, **changes), 2)
    held = engine.state.held
    assert held.is_padded_with_zeros()
    if method != "hetlora":  # which prunes
        assert held.ranks.tolist() == [1, 3, 6, 1, 3, 6, 1, 3]


@pytest.mark.parametrize("method, frozen", [("ffa-lora", "a"), ("rolora", "a")])
def test_a_factor_that_is_not_live_stays_as_it_was_bit_for_bit(scenario, method, frozen):
    engine = engine_of(scenario, method, learning__training__optimiser="adamw")
    before = engine.named_tensors()
    after = played(engine).named_tensors()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) == name.endswith(f".{frozen}")


def test_personal_factors_of_fedsa_never_leave_and_differ(scenario):
    engine = played(engine_of(scenario, "fedsa-lora"), 2)
    factors = engine.state.held.layers["layer0"]
    assert torch.equal(factors.a[0], factors.a[1])
    assert not torch.equal(factors.b[0], factors.b[1])


def test_one_plain_step_of_hetlora_goes_down_the_loss_and_the_penalty_on_tails(scenario, monkeypatch):
    monkeypatch.setattr(HetLoRA, "finish_locally", lambda self, before, after, state: after)  # no pruning
    changes = {"learning__training__steps": 1, "learning__batch": "full", "learning__learning_rate": 0.1}
    free, pressed = (
        engine_of(scenario, "hetlora", aggregation__tail_weight=weight, **changes) for weight in (0.0, 2.0)
    )
    state = played(free, 2).state
    assert pressed.learner.operator.tail_weight == 2.0
    with_it, without = (engine.learner.train(state, 2).after.layers for engine in (pressed, free))
    leaves = {
        name: LoRAFactors(f.a.double().requires_grad_(), f.b.double().requires_grad_())
        for name, f in state.held.layers.items()
    }
    tail_penalty(AdapterStack(leaves, state.held.ranks), 0.99, 2.0).sum().backward()
    for name, factors in leaves.items():
        torch.testing.assert_close(
            with_it[name].a, without[name].a - 0.1 * factors.a.grad.float(), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(
            with_it[name].b, without[name].b - 0.1 * factors.b.grad.float(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("method, trained", [("ps", "layer0.b"), ("fedprox", "layer0.weight")])
def test_momenta_live_across_rounds_only_where_asked(scenario, method, trained):
    changes = {"learning__training__optimiser": "momentum"}
    fresh = played(engine_of(scenario, method, **changes), 2)
    kept = played(engine_of(scenario, method, **changes, learning__training__keep_state=True), 2)
    assert fresh.state.memory is None
    assert kept.state.memory.counts.tolist() == [6] * 8
    assert not torch.equal(fresh.named_tensors()[trained], kept.named_tensors()[trained])


def test_diverged_local_training_is_an_error_that_names_the_way_out(scenario):
    engine = engine_of(scenario, "ps", learning__learning_rate=1e9)
    with pytest.raises(DivergenceError, match=r"learning_rate \(now 1e\+09\)"):
        played(engine, 5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"aggregation.method": "flexlora"}, "one superposition over the air cannot bring"),
        (
            {"aggregation.method": "fedinc", "uplink.nonlinear": "dense"},
            "choose uplink.nonlinear: orthogonal",
        ),
        ({"aggregation.method": "ps"}, "set personal_rank: 0"),
        ({"learning.training.epochs": 2}, "devices do not train between uploads"),
        ({"learning.training.epochs": 2, "learning.training.steps": 2}, "give one of them"),
        ({"learning.adapters.device_ranks": [9]}, "above shared_rank 6"),
        (
            {"aggregation.method": "rolora", "learning.adapters.device_ranks": [1, 2]},
            "not defined for devices of different ranks",
        ),
        (
            {"aggregation.method": "scaffold", "learning.training.optimiser": "adamw"},
            "optimiser: sgd without weight decay",
        ),
        ({"aggregation.method": "scaffold", "aggregation.sends": "factors"}, "set sends: change"),
        ({"aggregation.method": "lora-a2", "aggregation.sends": "factors"}, "set sends: change"),
        ({"aggregation.method": "fedavg", "learning.adapters.alpha": 4.0}, "leave alpha out"),
        ({"aggregation.method": "moon", "learning.adapters.device_ranks": [2]}, "leave device_ranks out"),
    ],
)
def test_what_a_method_cannot_work_with_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ScenarioError, match=message):
        Scenario.load("quickstart", changes)


@pytest.mark.parametrize("method", FULL_MODEL_METHODS)
def test_one_plain_step_of_a_full_model_is_the_weighted_gradient(scenario, method):
    engine = engine_of(
        scenario, method, learning__training__steps=1, learning__batch="full", learning__learning_rate=0.1
    )
    start = engine.named_tensors()
    data = engine.learner.data
    sizes = np.array([split.size for split in data.devices])
    leaves = {name: x.clone().double().requires_grad_() for name, x in start.items()}
    losses = []
    for split in data.devices:
        x = split.x.double()
        for index in range(len(leaves) // 2):
            x = torch.relu(x) if index else x
            x = x @ leaves[f"layer{index}.weight"].T + leaves[f"layer{index}.bias"]
        losses.append(torch.nn.functional.cross_entropy(x, split.y))
    total = (torch.stack(losses) * torch.from_numpy(sizes / sizes.sum())).sum()
    gradient = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    after = played(engine).named_tensors()
    for name, x in start.items():
        # At the first step the proximal pull, both controls and the contrast of equal models are zero.
        torch.testing.assert_close(after[name], (x - 0.1 * gradient[name]).float(), rtol=1e-4, atol=1e-6)


def test_the_view_of_a_round_carries_the_weights_that_were_superposed(scenario):
    engine = engine_of(scenario, "hetlora")
    local = played(engine, 1).learner.train(engine.state, 1)
    operator, weights = engine.learner.operator, local.weights
    assert float(weights.sum()) == pytest.approx(1.0)
    sizes = torch.tensor([float(split.size) for split in engine.learner.data.devices])
    assert not torch.allclose(weights.float(), sizes / sizes.sum(), atol=1e-3)
    update = aggregate(operator, local.sent, replace(local.view))
    assert set(update.state.layers) == set(engine.state.server.layers)


@pytest.mark.parametrize("method", ["hetlora", "fedinc"])
def test_devices_that_learn_nothing_are_told_to_raise_the_learning_rate(scenario, method):
    engine = engine_of(scenario, method, learning__learning_rate=1e-25)
    with pytest.raises(UntrainedError, match=r"Raise learning\.learning_rate"):
        played(engine)
