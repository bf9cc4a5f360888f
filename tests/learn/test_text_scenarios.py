"""Scenarios of texts, from a folder with a tiny encoder and a few sentences to accuracy over the air."""

import math
import shutil
from typing import get_args

import pytest
import torch
from pretend_device import DEVICE, pretending

from airsim import Scenario, build, run
from airsim.build import build_simulation, fingerprint
from airsim.builders.costs import adapter_sizes
from airsim.errors import DataError, ScenarioError
from airsim.learn.evaluation import HeadPolicy, evaluate_across
from airsim.learn.models.pretrained import load_network
from airsim.learn.peft_format import merged_network
from airsim.scenario.aggregation import FULL_MODEL_METHODS, GRADIENT_METHOD, MethodName


@pytest.fixture
def scenario(text_scenario):
    """The builder of small text scenarios."""
    return text_scenario


def test_two_tasks_of_texts_are_learned_over_the_air(scenario):
    metrics = run(scenario(learning__learning_rate=0.1, stop__rounds=90)).metrics
    assert metrics["loss"][-1] < metrics["loss"][0] / 2
    assert 0 < metrics["pi_realised"][-1] < 1e-2
    assert len(metrics["accuracy_per_task"][-1]) == 2


@pytest.mark.parametrize("method", ["airpfed-lora", "ps"])
def test_a_round_of_texts_on_another_device_copies_neither_tokens_nor_payloads(scenario, method, monkeypatch):
    changes = {"learning__model__heads": "trained" if method == GRADIENT_METHOD else "frozen"}
    if method != GRADIENT_METHOD:
        changes |= {
            "aggregation__method": method,
            "learning__adapters": {"shared_rank": 2, "personal_rank": 0},
        }
    small = scenario(**changes)
    wanted = build_simulation(small).engine
    monkeypatch.setattr(build, "build_torch_device", lambda scenario: DEVICE)
    with pretending() as copies:
        found = build_simulation(small).engine
        before = len(copies)
        for engine in (found, wanted):
            engine.begin(0, range(4))
            engine.finish(0)
        large = [copy for copy in copies[before:] if copy.entries > 24 and copy.dtype != torch.int64]
        assert {copy.where.partition(":")[0] for copy in large} == {"transmission.py"}  # noise
        assert all(copy.entries <= 4 for copy in copies[before:] if copy.way == "from")
        tested = found.evaluate()
    for key in ("loss", "pi_realised", "reference_std"):
        assert found.metrics[key] == pytest.approx(wanted.metrics[key], rel=1e-4)
    assert tested["test_loss"] == pytest.approx(wanted.evaluate()["test_loss"], rel=1e-4)


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
        r"learning\.model\.tokens: 17 tokens .* has 16 positions\n.*set learning\.model\.tokens to at most 16"
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


@pytest.mark.parametrize("method", ["flora", "colr", "fedex-lora", "sp-base-dropping"])
def test_a_base_that_a_method_has_changed_is_saved_with_the_server_adapter(scenario, method, tmp_path):
    engine = build_simulation(method_scenario(scenario, method, uplink__mode="error-free")).engine
    for index in range(2):
        engine.begin(index, range(4))
        engine.finish(index)
    model, server = engine.state.model.for_task(1), engine.state.server
    scale = server.scale(next(iter(server.layers)))
    merged_network(model, server.layers, scale).save_pretrained(tmp_path / "merged")
    loaded = load_network(str(tmp_path / "merged"), model.objective)
    x = engine.learner.data.tests[1].x
    mask = x >= 0
    with torch.no_grad():
        output = loaded(input_ids=x.clamp(min=0), attention_mask=mask.long())
    found = model.objective.logits(output, mask, None).squeeze(0)
    torch.testing.assert_close(found, model.forward(x, server.layers, scale), rtol=1e-5, atol=1e-5)
    assert model.changed


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


def test_a_task_without_files_names_what_is_missing(scenario):
    with pytest.raises(DataError, match=r"nowhere\.train\.tsv"):
        build_simulation(scenario(learning__data__tasks=["nowhere"]))
