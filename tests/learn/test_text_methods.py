"""Scenarios of texts in which heads, or the network's own parameters, are trained between uploads."""

import math

import pytest
import torch
import transformers
from test_text_scenarios import method_scenario

from airsim import run
from airsim.build import build_simulation
from airsim.builders.costs import method_costs
from airsim.learn.evaluation import HeadPolicy
from airsim.learn.federated.assessed import FederatedModels
from airsim.report.check import airtime_rows
from airsim.scenario.aggregation import FULL_MODEL_METHODS

HEADS = ("trained", "frozen")


@pytest.mark.parametrize("method", ["ps", "ffa-lora", "rbla", "colr"])
def test_trained_heads_follow_the_payload_of_a_method_on_adapters_and_are_counted(text_scenario, method):
    entries = 2 * 3 * (32 + 1)
    built = {heads: method_scenario(text_scenario, method, learning__model__heads=heads) for heads in HEADS}
    costs = {heads: method_costs(one) for heads, one in built.items()}
    assert costs["trained"].broadcast - costs["frozen"].broadcast == entries
    assert costs["trained"].first_broadcast - costs["frozen"].first_broadcast == entries
    assert costs["trained"].channel_uses - costs["frozen"].channel_uses == entries // 2
    engine = build_simulation(built["trained"]).engine
    start = engine.named_tensors()
    for index in range(2):
        engine.begin(index, range(4))
        engine.finish(index)
    assert engine.channel_uses == 2 * costs["trained"].channel_uses
    assert engine.broadcast_entries == costs["trained"].broadcast
    assert not torch.equal(engine.named_tensors()["head.a"], start["head.a"])
    assert all(math.isfinite(engine.evaluate()[name]) for name in ("accuracy", "test_loss"))


def test_trained_heads_of_fedsa_lora_stay_on_their_devices_and_are_not_counted(text_scenario):
    built = {
        heads: method_scenario(text_scenario, "fedsa-lora", learning__model__heads=heads) for heads in HEADS
    }
    trained, frozen = (method_costs(one) for one in built.values())
    assert (trained.broadcast, trained.channel_uses) == (frozen.broadcast, frozen.channel_uses)
    engine = build_simulation(built["trained"]).engine
    start = engine.state.held.layers["head"].a.view(4, 2, -1)
    local = engine.learner.train(engine.state, 0).after.layers["head"].a.view(4, 2, -1)
    engine.begin(0, range(4))
    engine.finish(0)
    held, tasks = engine.state.held.layers["head"].a.view(4, 2, -1), engine.learner.data.task_of_device
    assert torch.equal(held, local)
    for device, task in enumerate(tasks):
        assert not torch.equal(held[device, task], start[device, task])
        assert torch.equal(held[device, 1 - task], start[device, 1 - task])
    assert torch.equal(engine.named_tensors()["head.a"].view(2, -1), start[0])


def test_a_step_of_trained_heads_is_the_weighted_gradient_by_plain_autograd(text_scenario):
    changes = {"learning__training__steps": 1, "learning__batch": "full", "uplink__mode": "error-free"}
    built = method_scenario(text_scenario, "fedit", learning__model__heads="trained", **changes)
    engine = build_simulation(built).engine
    data, rows = engine.learner.data, engine.named_tensors()["head.a"].view(2, 3, 33)
    network = transformers.AutoModel.from_pretrained(built.learning.model.network)
    leaf, sizes = rows.clone().requires_grad_(), [split.size for split in data.devices]
    for split, task in zip(data.devices, data.task_of_device, strict=True):
        mask = split.x >= 0
        with torch.no_grad():
            hidden = network(split.x.clamp(min=0), attention_mask=mask.long()).last_hidden_state
        pooled = (hidden * mask[:, : hidden.shape[1], None]).sum(1) / mask.sum(1, keepdim=True)
        logits = (pooled @ leaf[task, :, :-1].T + leaf[task, :, -1])[:, : (2, 3)[task]]
        (split.size / sum(sizes) * torch.nn.functional.cross_entropy(logits, split.y)).backward()
    engine.begin(0, range(4))
    engine.finish(0)
    after = engine.named_tensors()["head.a"].view(2, 3, 33)
    torch.testing.assert_close(after, rows - 0.05 * leaf.grad, rtol=1e-4, atol=1e-6)


def test_momenta_of_trained_heads_live_on_and_absent_devices_hear_the_heads(text_scenario):
    changes = {"learning__training__optimiser": "momentum", "learning__training__keep_state": True}
    changes |= {"learning__model__heads": "trained"}
    engine = build_simulation(method_scenario(text_scenario, "ps", **changes)).engine
    for index, participants in enumerate([range(4), (0, 1)]):
        engine.begin(index, participants)
        engine.finish(index)
    assert engine.state.memory.counts.tolist() == [4, 4, 2, 2]
    assert len({row.sum().item() for row in engine.state.held.layers["head"].a}) == 1


def whole_scenario(scenario, method, **changes):
    """Two local steps of every device on the encoder's own parameters."""
    fixed = {"aggregation__method": method, "learning__training__steps": 2, "learning__batch": 3}
    return scenario(**fixed | {"learning__learning_rate": 0.05} | changes)


@pytest.mark.parametrize(
    "method, trained", [*((name, "all") for name in FULL_MODEL_METHODS), ("moon", "adapted-layers")]
)
def test_methods_on_full_parameters_train_an_encoder_over_the_air(text_scenario, method, trained):
    built = whole_scenario(text_scenario, method, learning__model__trained_weights=trained)
    simulation, costs = build_simulation(built), method_costs(built)
    engine = simulation.engine
    start, begun = engine.named_tensors(), engine.broadcast_entries
    for index in range(2):
        engine.begin(index, range(4))
        engine.finish(index)
    metrics, after = engine.metrics | engine.evaluate(), engine.named_tensors()
    assert all(math.isfinite(metrics[name]) for name in ("loss", "pi_realised", "accuracy", "test_loss"))
    assert all(not torch.equal(after[name], tensor) for name, tensor in start.items())
    vectors = 2 if method == "scaffold" else 1
    entries = vectors * sum(tensor.numel() for tensor in start.values())
    assert begun == engine.broadcast_entries == costs.first_broadcast == costs.broadcast == entries
    assert engine.channel_uses == 2 * costs.channel_uses == 2 * ((entries + 1) // 2)


def test_a_round_of_whole_encoders_without_errors_is_one_weighted_step_of_plain_transformers(text_scenario):
    changes = {"learning__training__steps": 1, "learning__batch": "full", "uplink__mode": "error-free"}
    built = whole_scenario(text_scenario, "fedavg", **changes)
    engine = build_simulation(built).engine
    start, data = engine.named_tensors(), engine.learner.data
    network = transformers.AutoModel.from_pretrained(built.learning.model.network)
    heads = [start[name].clone().requires_grad_() for name in ("heads.weight", "heads.bias")]
    total, sizes = 0.0, [split.size for split in data.devices]
    for split, task in zip(data.devices, data.task_of_device, strict=True):
        mask = split.x >= 0
        hidden = network(split.x.clamp(min=0), attention_mask=mask.long()).last_hidden_state
        pooled = (hidden * mask[:, : hidden.shape[1], None]).sum(1) / mask.sum(1, keepdim=True)
        logits = (pooled @ heads[0][task].T + heads[1][task])[:, : (2, 3)[task]]
        loss = torch.nn.functional.cross_entropy(logits, split.y)
        total = total + split.size / sum(sizes) * loss
    total.backward()
    engine.begin(0, range(4))
    engine.finish(0)
    gradients = {name: x.grad for name, x in network.named_parameters() if x.grad is not None}
    gradients |= dict(zip(("heads.weight", "heads.bias"), (x.grad for x in heads), strict=True))
    after = engine.named_tensors()
    assert after.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(after[name], start[name] - 0.05 * gradient, rtol=1e-4, atol=1e-6)


def test_whole_encoders_learn_two_tasks_over_the_air(text_scenario):
    changes = {"learning__training__steps": 4, "learning__batch": "full", "stop__rounds": 5}
    changes |= {"learning__learning_rate": 0.3, "record__evaluate_every": 5}
    changes |= {"record__also_evaluate": ["global", "devices"]}
    metrics = run(whole_scenario(text_scenario, "fedavg", **changes)).metrics
    assert metrics["loss"][-1] < 0.8 * metrics["loss"][0]
    assert metrics["accuracy_global"][-1] == metrics["accuracy"][-1]


def test_a_whole_encoder_answers_other_tasks_with_either_head(text_scenario):
    engine = build_simulation(whole_scenario(text_scenario, "fedavg")).engine
    models = FederatedModels(engine.learner, engine.state)
    tested, own = (models.on_all_tasks(policy).accuracy for policy in HeadPolicy)
    assert tested.diagonal().tolist() == own.diagonal().tolist()
    assert (tested[0] == tested[1]).all() and not (own[0] == own[1]).all()


def test_lower_layers_are_kept_below_the_lowest_trained_layer_and_nowhere_else(text_scenario):
    chosen, all_of_it = (
        build_simulation(whole_scenario(text_scenario, "fedavg", learning__model__trained_weights=trained))
        for trained in ("adapted-layers", "all")
    )
    assert chosen.engine.learner.base.model.lower is not None
    assert all_of_it.engine.learner.base.model.lower is None
    costs = [one.profile.own_work(0, 0).compute_s for one in (all_of_it, chosen)]
    assert costs[0] > costs[1]


def test_a_check_says_what_is_trained(text_scenario):
    said = [
        dict(airtime_rows(scenario))["what is trained"]
        for scenario in (
            whole_scenario(text_scenario, "fedavg", learning__model__heads="trained"),
            whole_scenario(text_scenario, "fedavg", learning__model__trained_weights="adapted-layers"),
            method_scenario(text_scenario, "ps", learning__model__heads="trained"),
        )
    ]
    starts, ends = ("all weights", "matrices of", "adapters on"), (", and the heads", "", ", and the heads")
    for text, start, end in zip(said, starts, ends, strict=True):
        assert text.startswith(start) and text.endswith(end)
