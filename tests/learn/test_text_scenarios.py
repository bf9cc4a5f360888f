"""Scenarios of texts, from a folder with a tiny encoder and a few sentences to accuracy over the air."""

import math
import shutil
from typing import get_args

import pytest
import torch
import transformers
from sentences import both_sources, word_tokeniser

from airsim import Scenario, run
from airsim.build import build_simulation, fingerprint
from airsim.builders.costs import adapter_sizes, method_costs
from airsim.errors import DataError, ScenarioError
from airsim.learn.evaluation import HeadPolicy, evaluate_across
from airsim.learn.federated.assessed import FederatedModels
from airsim.scenario.aggregation import (
    FULL_MODEL_METHODS,
    GRADIENT_METHOD,
    HEAD_METHODS,
    PERSONAL_HEAD_METHODS,
    MethodName,
)

HEADS = ("trained", "frozen")
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A network and its tokeniser, saved as Hugging Face saves them."""
    folder, tokeniser = tmp_path_factory.mktemp("encoder"), word_tokeniser()
    transformers.set_seed(0)
    config = transformers.BertConfig(vocab_size=len(tokeniser), **ENCODER)
    transformers.BertModel(config).save_pretrained(folder)
    tokeniser.save_pretrained(folder)
    return folder


@pytest.fixture
def scenario(encoder_folder, tmp_path, monkeypatch):
    """A builder of small text scenarios, with changes by dotted key."""
    (tmp_path / "text").mkdir()
    names = []
    for source in both_sources():
        for split, part in (("train", source.train), ("test", source.test)):
            lines = [f"{text}\t{label}" for text, label in zip(part.texts, part.labels, strict=True)]
            path = tmp_path / "text" / f"{source.name}.{split}.tsv"
            path.write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
        names.append(source.name)
    monkeypatch.setenv("AIRSIM_DATA_DIR", str(tmp_path))

    def build(**changes):
        small = {
            "learning.model.network": str(encoder_folder),
            "learning.model.adapted_layers": r"layer\.1\..*(query|value|dense)",
            "learning.model.tokens": 10,
            "learning.data.tasks": names,
            "learning.data.training_texts": "all",
            "learning.data.test_texts": "all",
            "learning.adapters": {"shared_rank": 2, "personal_rank": 2},
            "learning.batch": "full",
            "network.devices.per_edge_server": 2,
            "stop.rounds": 30,
            "record.evaluate_every": 30,
        }
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return Scenario.load("airpfed-text").with_overrides(small | dotted)

    return build


def test_two_tasks_of_texts_are_learned_over_the_air(scenario):
    metrics = run(scenario(learning__learning_rate=0.1, stop__rounds=90)).metrics
    assert metrics["loss"][-1] < metrics["loss"][0] / 2
    assert 0 < metrics["pi_realised"][-1] < 1e-2
    assert len(metrics["accuracy_per_task"][-1]) == 2


def test_trained_heads_travel_with_the_personal_payload_and_change_the_phases_shares(scenario):
    trained, frozen = (
        adapter_sizes(scenario(learning__model__heads=heads)) for heads in ("trained", "frozen")
    )
    assert trained[0] == frozen[0] == frozen[1]
    most_classes, width = 3, 32
    assert trained[1] - frozen[1] == most_classes * (width + 1)
    federation = build_simulation(scenario()).engine.federation
    assert federation.entries == trained
    assert federation.stream_weights[0] == pytest.approx(trained[0] / sum(trained))
    assert federation.symbols_personal == (trained[1] + 1) // 2


def test_the_head_that_answers_another_task_is_the_one_that_the_scenario_names(scenario):
    changes = {"learning__learning_rate": 0.1, "stop__rounds": 4}
    changes |= {"record__evaluate_every": 4, "record__also_evaluate": ["cross-task", "devices"]}
    found = {}
    for policy in HeadPolicy:
        named = policy.name.lower().replace("_", "-")
        engine = build_simulation(scenario(**changes, record__head_policy=named)).engine
        for index in range(4):
            engine.begin(index, range(4))
            engine.finish(index)
        learner = engine.learner
        models = (learner.model, engine.adapters, learner.scale, learner.cohort.data.tests)
        found[policy] = engine.evaluate()["accuracy_cross_task_per_model"]
        assert found[policy] == evaluate_across(*models, policy).all_tasks.tolist()
    assert found[HeadPolicy.TESTED_TASK] != found[HeadPolicy.OWN_TASK]


def test_keeping_the_lower_layers_changes_no_result(scenario):
    one, other = (
        run(scenario(learning__model__keep_lower_layers=keep, stop__rounds=3)).metrics["loss"]
        for keep in (True, False)
    )
    assert one == pytest.approx(other, rel=1e-4)


def test_a_run_is_named_by_its_texts_and_its_network_and_not_by_their_places(scenario, tmp_path):
    name, network = fingerprint(scenario()), scenario().learning.model.network
    assert fingerprint(scenario(learning__model__tokens=9)) != name
    shutil.copytree(network, tmp_path / "copied")
    assert fingerprint(scenario(learning__model__network=str(tmp_path / "copied"))) == name


def test_more_tokens_than_the_network_has_positions_are_refused(scenario):
    message = (
        r"learning\.model\.tokens: 17 tokens .* has 16 positions: set learning\.model\.tokens to at most 16"
    )
    with pytest.raises(DataError, match=message):
        build_simulation(scenario(learning__model__tokens=17))


def moved_base(scenario, method, dtype):
    """How far three rounds have moved the base."""
    changes = {"aggregation__method": method, "learning__model__dtype": dtype, "uplink__mode": "error-free"}
    changes |= {"learning__model__heads": "frozen", "learning__adapters__personal_rank": 0}
    engine = build_simulation(scenario(**changes)).engine
    first = engine.state.model.base_weights
    for index in range(3):
        engine.begin(index, range(4))
        engine.finish(index)
    return {name: weight - first[name] for name, weight in engine.state.model.base_weights.items()}


@pytest.mark.parametrize("method", ["flora", "fedex-lora"])
def test_what_a_method_merges_into_a_bfloat16_base_is_not_rounded_away(scenario, method):
    rounded, exact = (moved_base(scenario, method, dtype) for dtype in ("bfloat16", "float32"))
    for name, change in exact.items():
        assert change.norm() > 0
        assert (rounded[name] - change).norm() < 0.2 * change.norm()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"learning.model.adapted_layers": "("}, r"'\(' is no regular expression: missing \)"),
        ({"learning.data": {"kind": "images"}}, "kind: transformer and kind: text together"),
        (
            {"aggregation.method": "hetlora", "learning.adapters.personal_rank": 0},
            "hetlora does not train heads: its weights are norms of adapters",
        ),
        (
            {
                "aggregation.method": "fedsa-lora",
                "learning.adapters.personal_rank": 0,
                "record.also_evaluate": ["cross-task"],
            },
            "trained heads of fedsa-lora stay on their devices: no other task has them",
        ),
        (
            {"aggregation.method": "flora", "learning.adapters.personal_rank": 0},
            "uploads that are merged one by one they are not built",
        ),
        (
            {"aggregation.method": "fedavg", "learning.model.dtype": "bfloat16"},
            "fedavg trains all parameters, in which bfloat16 would lose what a step adds",
        ),
        (
            {"learning.model.trained_weights": "adapted-layers"},
            "airpfed-lora trains adapters, and no weights of the network",
        ),
    ],
)
def test_what_texts_cannot_be_combined_with_is_refused(changes, message):
    with pytest.raises(ScenarioError, match=message):
        Scenario.load("airpfed-text", changes)


ON_ADAPTERS = tuple(
    name for name in get_args(MethodName) if name not in (GRADIENT_METHOD, *FULL_MODEL_METHODS)
)


def method_scenario(scenario, method, **changes):
    """Two local steps of every device with frozen heads, one adapter for both tasks."""
    fixed = {
        "aggregation__method": method,
        "aggregation__distance": "squared",
        "learning__model__heads": "frozen",
        "learning__adapters": {"shared_rank": 2, "personal_rank": 0},
        "learning__training__steps": 2,
        "learning__batch": 3,
        "learning__learning_rate": 0.05,
        "uplink__nonlinear": "orthogonal",
    }
    return scenario(**fixed | changes)


@pytest.mark.parametrize("method", ON_ADAPTERS)
def test_methods_on_adapters_train_an_encoder_between_uploads_and_over_the_air(scenario, method):
    engine = build_simulation(method_scenario(scenario, method)).engine
    before = engine.named_tensors()
    for index in range(2):
        engine.begin(index, range(4))
        engine.finish(index)
    metrics = engine.metrics | engine.evaluate()
    assert all(math.isfinite(metrics[name]) for name in ("loss", "pi_realised", "accuracy", "test_loss"))
    after = engine.named_tensors()
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())
    changes_base = method in ("flora", "colr", "fedex-lora", "sp-base-dropping")
    assert any(name.startswith("base.") for name in after) == changes_base


@pytest.mark.parametrize("method", ["fedit", "flora", "fedex-lora"])
def test_a_round_of_texts_without_errors_is_the_definition_on_the_networks_own_weights(scenario, method):
    built = method_scenario(scenario, method, uplink__mode="error-free", learning__training__steps=1)
    engine = build_simulation(built).engine
    model, start = engine.state.model, engine.state.held
    local = engine.learner.train(engine.state, 0).after
    engine.begin(0, range(4))
    engine.finish(0)
    sizes = torch.tensor([float(split.size) for split in engine.learner.data.devices])
    weights = sizes / sizes.sum()
    for name, weight in model.base_weights.items():
        own = local.layers[name]
        if method == "fedit":
            b, a = (torch.tensordot(weights, x, dims=1) for x in (own.b, own.a))
            wanted = weight + b @ a
        else:
            wanted = weight + torch.einsum("k,kor,kri->oi", weights, own.b, own.a)
        held, base = engine.state.held.layers[name].take(0), engine.state.model.base_weights[name]
        torch.testing.assert_close(base + held.b @ held.a, wanted, rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(weight, own)
        for weight, own in zip(
            model.base_weights.values(), engine.learner.initial.model.base_weights.values(), strict=True
        )
    )
    assert start.num_devices == 4


def test_an_encoder_learns_two_tasks_with_one_adapter_and_local_steps(scenario):
    built = method_scenario(
        scenario,
        "fedit",
        learning__training__steps=5,
        stop__rounds=10,
        learning__batch="full",
        learning__learning_rate=0.2,
    )
    metrics = run(built).metrics
    assert metrics["loss"][-1] < 0.7 * metrics["loss"][0]


def test_some_devices_train_an_encoder_and_answer_other_tasks_with_either_head(scenario):
    across = {}
    for policy in ("tested-task", "own-task"):
        changes = {"record__also_evaluate": ["cross-task", "global"], "record__head_policy": policy}
        built = method_scenario(scenario, "hetlora", learning__participation__devices=3, **changes)
        across[policy] = run(built.with_overrides({"stop.rounds": 2, "record.evaluate_every": 2})).metrics
    one, other = across.values()
    assert one["loss"] == other["loss"] and one["accuracy"][-1] == other["accuracy"][-1]
    differing = [key for key in one if one[key][-1] != other[key][-1]]
    assert differing and all("cross" in key or "all_tasks" in key for key in differing)


@pytest.mark.parametrize("method", [name for name in HEAD_METHODS if name not in PERSONAL_HEAD_METHODS])
def test_trained_heads_follow_the_payload_of_a_method_on_adapters_and_are_counted(scenario, method):
    entries = 2 * 3 * (32 + 1)
    built = {heads: method_scenario(scenario, method, learning__model__heads=heads) for heads in HEADS}
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


def test_trained_heads_of_fedsa_lora_stay_on_their_devices_and_are_not_counted(scenario):
    built = {heads: method_scenario(scenario, "fedsa-lora", learning__model__heads=heads) for heads in HEADS}
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


def test_a_step_of_trained_heads_is_the_weighted_gradient_by_plain_autograd(scenario):
    changes = {"learning__training__steps": 1, "learning__batch": "full", "uplink__mode": "error-free"}
    built = method_scenario(scenario, "fedit", learning__model__heads="trained", **changes)
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


def test_momenta_of_trained_heads_live_on_and_absent_devices_hear_the_heads(scenario):
    changes = {"learning__training__optimiser": "momentum", "learning__training__keep_state": True}
    changes |= {"learning__model__heads": "trained"}
    engine = build_simulation(method_scenario(scenario, "ps", **changes)).engine
    for index, participants in enumerate([range(4), (0, 1)]):
        engine.begin(index, participants)
        engine.finish(index)
    assert engine.state.memory.counts.tolist() == [4, 4, 2, 2]
    assert len({row.sum().item() for row in engine.state.held.layers["head"].a}) == 1


def whole_scenario(scenario, method, **changes):
    """Two local steps of every device on the encoder's own parameters."""
    fixed = {"aggregation__method": method, "learning__training__steps": 2, "learning__batch": 3}
    return scenario(**fixed | {"learning__learning_rate": 0.05} | changes)


@pytest.mark.parametrize("trained", ["all", "adapted-layers"])
@pytest.mark.parametrize("method", FULL_MODEL_METHODS)
def test_methods_on_full_parameters_train_an_encoder_over_the_air(scenario, method, trained):
    built = whole_scenario(scenario, method, learning__model__trained_weights=trained)
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


def test_a_round_of_whole_encoders_without_errors_is_one_weighted_step_of_plain_transformers(scenario):
    changes = {"learning__training__steps": 1, "learning__batch": "full", "uplink__mode": "error-free"}
    built = whole_scenario(scenario, "fedavg", **changes)
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


def test_whole_encoders_learn_two_tasks_over_the_air(scenario):
    changes = {"learning__training__steps": 4, "learning__batch": "full", "stop__rounds": 5}
    changes |= {"learning__learning_rate": 0.3, "record__evaluate_every": 5}
    changes |= {"record__also_evaluate": ["global", "devices"]}
    metrics = run(whole_scenario(scenario, "fedavg", **changes)).metrics
    assert metrics["loss"][-1] < 0.8 * metrics["loss"][0]
    assert metrics["accuracy_global"][-1] == metrics["accuracy"][-1]


def test_a_whole_encoder_answers_other_tasks_with_either_head(scenario):
    engine = build_simulation(whole_scenario(scenario, "fedavg")).engine
    models = FederatedModels(engine.learner, engine.state)
    tested, own = (models.on_all_tasks(policy).accuracy for policy in HeadPolicy)
    assert tested.diagonal().tolist() == own.diagonal().tolist()
    assert (tested[0] == tested[1]).all() and not (own[0] == own[1]).all()


def test_lower_layers_are_kept_below_the_lowest_trained_layer_and_nowhere_else(scenario):
    chosen, all_of_it = (
        build_simulation(whole_scenario(scenario, "fedavg", learning__model__trained_weights=trained))
        for trained in ("adapted-layers", "all")
    )
    assert chosen.engine.learner.base.model.lower is not None
    assert all_of_it.engine.learner.base.model.lower is None
    assert all_of_it.profile.compute_s[0] > chosen.profile.compute_s[0]


def test_a_task_without_files_names_what_is_missing(scenario):
    with pytest.raises(DataError, match=r"nowhere\.train\.tsv"):
        build_simulation(scenario(learning__data__tasks=["nowhere"]))
