import concurrent.futures

import numpy as np
import pytest
import torch
from transformer_builders import (
    SCALE,
    random_factors,
    random_texts,
    tiny_heads,
    tiny_model,
    tiny_network,
)

from airsim.errors import DataError
from airsim.learn.adapters import AdapterRanks, DualAdapters, LoRAFactors, flatten, initial_adapters
from airsim.learn.batches import pad
from airsim.learn.evaluation import HeadPolicy, evaluate_across, evaluate_global
from airsim.learn.models.heads import HEAD, random_heads, with_trained_heads
from airsim.learn.models.transformer import adapt
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.randomness import RandomStreams

KINDS = ["bert", "llama", "gpt2", "llama-lm"]


def plain_loss(kind, layers, split, heads):
    """Mean loss of one device the ordinary way: dense weights in a fresh network, one text at a time."""
    network = tiny_network(kind)
    merged = dict(network.named_parameters())
    for name, own in layers.items():
        if name != HEAD:
            update = SCALE * own.b @ own.a
            weight = merged[f"{name}.weight"]
            merged[f"{name}.weight"] = weight.detach() + (
                update if weight.shape == update.shape else update.mT
            )
    losses = []
    for tokens, label in zip(split.x, split.y, strict=True):
        text = tokens[tokens >= 0].unsqueeze(0)
        output = torch.func.functional_call(network, merged, kwargs={"input_ids": text})
        if kind.endswith("-lm"):
            losses.append(torch.nn.functional.cross_entropy(output.logits[0, :-1], text[0, 1:]))
            continue
        weight, bias = (layers[HEAD].a[:, :-1], layers[HEAD].a[:, -1]) if HEAD in layers else heads
        logits = (output.last_hidden_state[0].mean(dim=0) @ weight.mT + bias)[: heads.classes]
        losses.append(torch.nn.functional.cross_entropy(logits, label))
    return torch.stack(losses).mean()


class Head(tuple):
    """Weight and bias of one task, and how many classes it has."""

    classes = None


def head_of(objective):
    head = Head((objective.weight, objective.bias))
    head.classes = int(objective.num_classes)
    return head


def assert_gradients_match(result, device, loss, leaves):
    torch.testing.assert_close(result.losses[device], loss.detach(), rtol=1e-10, atol=1e-10)
    loss.backward()
    for name, own in leaves.items():
        torch.testing.assert_close(result.layers[name].a[device], own.a.grad, rtol=1e-10, atol=1e-10)
        if own.b.numel():
            torch.testing.assert_close(result.layers[name].b[device], own.b.grad, rtol=1e-10, atol=1e-10)


def leaf(layers):
    return {
        name: LoRAFactors(own.a.clone().requires_grad_(), own.b.clone().requires_grad_())
        for name, own in layers.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_devices_with_common_adapters_are_those_of_autograd_device_by_device(kind):
    model = tiny_model(kind).for_task(1)
    head = None if kind.endswith("-lm") else head_of(model.objective)
    layers = random_factors(model)
    splits = [random_texts(size, seed=size) for size in (1, 4, 3)]
    result = model.device_gradients(layers, SCALE, pad(splits))
    for device, split in enumerate(splits):
        leaves = leaf(layers)
        assert_gradients_match(result, device, plain_loss(kind, leaves, split, head), leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_mixed_ranks_are_those_of_autograd_and_nothing_beyond_a_rank_moves(kind):
    ranks, tasks = (1, 3, 2), (2, 0, 1)
    model = tiny_model(kind)
    stacked = random_factors(model, rank=3, stack=(3,))
    for own in stacked.values():
        for device, rank in enumerate(ranks):
            own.a[device, rank:], own.b[device, :, rank:] = 0, 0
    splits = [random_texts(size, seed=size) for size in (2, 4, 3)]
    together = model.for_devices(tasks).device_gradients(stacked, SCALE, pad(splits))
    for device, (task, rank, split) in enumerate(zip(tasks, ranks, splits, strict=True)):
        leaves = leaf({name: own.take(device).split(rank)[0] for name, own in stacked.items()})
        head = None if kind.endswith("-lm") else head_of(model.for_task(task).objective)
        found = {name: own.take([device]).split(rank) for name, own in together.layers.items()}
        assert all(
            part.abs().max() == 0 for _, rest in found.values() for part in (rest.a, rest.b) if rest.rank
        )
        loss = plain_loss(kind, leaves, split, head)
        alone = type(together)(together.losses[[device]], {name: own for name, (own, _) in found.items()})
        assert_gradients_match(alone, 0, loss, leaves)


@pytest.mark.parametrize("kind", ["bert", "llama-lm"])
def test_devices_that_do_not_fit_one_pass_get_the_same_gradients(kind, monkeypatch):
    model = tiny_model(kind).for_devices([2, 0, 1, 1, 0])
    stacked = random_factors(model, stack=(5,))
    batch = pad([random_texts(size, seed=size) for size in (2, 4, 3, 1, 4)])
    together = model.device_gradients(stacked, SCALE, batch)
    monkeypatch.setattr("airsim.learn.models.transformer.TOKENS_PER_PASS", 2 * 4 * 9)
    apart = model.device_gradients(stacked, SCALE, batch)
    torch.testing.assert_close(apart.losses, together.losses)
    torch.testing.assert_close(flatten(apart.layers), flatten(together.layers))


def test_shared_personal_and_trained_head_are_differentiated_together():
    model = tiny_model()
    shared = random_factors(model, rank=2)
    personal = random_factors(model, rank=1, stack=(3,), seed=4)
    adapters = with_trained_heads(DualAdapters(shared, personal), model.objective)
    splits = [random_texts(size, seed=size) for size in (3, 2)]
    layers = adapters.for_task(1)
    assert set(layers) == {*model.layer_names, HEAD}
    result = model.for_task(1).device_gradients(layers, SCALE, pad(splits))
    for device, split in enumerate(splits):
        leaves = leaf(layers)
        loss = plain_loss("bert", leaves, split, head_of(model.for_task(1).objective))
        assert_gradients_match(result, device, loss, leaves)


def test_a_trained_head_is_sent_with_the_personal_payload_counted_and_stepped():
    model = tiny_model(dtype=torch.float32)
    heads = random_heads([2, 4, 3], 32, RandomStreams(0))
    bare = initial_adapters(model.layer_shapes, 3, AdapterRanks(2, 1), 1.0, RandomStreams(0))
    adapters, operator = with_trained_heads(bare, heads), AirPFedLoRA(0.5)
    before, after = operator.payload_sizes(bare), operator.payload_sizes(adapters)
    assert after.shared == before.shared
    assert after.personal - before.personal == 4 * (32 + 1)
    moved = operator.apply(adapters, torch.ones(after.shared), torch.ones(3, after.personal))
    torch.testing.assert_close(moved.personal[HEAD].a, adapters.personal[HEAD].a - 0.5)
    assert flatten(moved.for_task(2)).shape == (after.shared + after.personal,)


@pytest.mark.parametrize("shared_rank", [0, 2])
def test_trained_heads_are_seen_at_any_shared_rank(shared_rank):
    model = tiny_model()
    bare = DualAdapters(random_factors(model, shared_rank), random_factors(model, 1, stack=(3,)))
    assert not bare.has_trained_heads
    assert with_trained_heads(bare, model.objective).has_trained_heads


def test_classes_that_a_task_lacks_are_never_chosen_and_learn_nothing():
    model = tiny_model().for_task(0)
    adapters = with_trained_heads(
        DualAdapters(random_factors(model, 1), random_factors(model, 1, stack=(3,))), tiny_heads()
    )
    split = random_texts(12, num_classes=2)
    logits = model.forward(split.x, adapters.for_task(0), SCALE)
    assert logits.shape == (12, 4)
    assert torch.isinf(logits[:, 2:]).all() and (logits.argmax(dim=-1) < 2).all()
    gradient = model.device_gradients(adapters.for_task(0), SCALE, pad([split])).layers[HEAD].a[0]
    assert (gradient[2:] == 0).all() and (gradient[:2] != 0).any()


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_neither_padding_nor_company_changes_a_text(kind):
    model = tiny_model(kind).for_task(0)
    layers, texts = random_factors(model), random_texts(5).x
    together = model.forward(texts, layers, SCALE)
    for row, text in enumerate(texts):
        alone = model.forward(text[text >= 0].unsqueeze(0), layers, SCALE)
        torch.testing.assert_close(together[row], alone[0])


@pytest.mark.parametrize(
    ("kind", "pattern"), [("bert", r"layer\.2\..*query"), ("llama", r"layers\.[12].*v_proj")]
)
def test_activations_kept_below_the_lowest_adapter_change_nothing(kind, pattern):
    model = tiny_model(kind, pattern, num_layers=3).for_task(2)
    assert model.num_lower_layers == {"bert": 2, "llama": 1}[kind]
    layers, splits = random_factors(model), [random_texts(size, seed=size) for size in (4, 2)]
    known = model.with_known_texts([split.x for split in splits])
    calls = []
    model.network.get_submodule(
        "encoder.layer.0" if kind == "bert" else "layers.0"
    ).block.register_forward_hook(lambda *_: calls.append(1))
    one, other = (each.device_gradients(layers, SCALE, pad(splits)) for each in (model, known))
    assert len(calls) == 1
    torch.testing.assert_close(one.losses, other.losses)
    torch.testing.assert_close(flatten(one.layers), flatten(other.layers))
    fresh = random_texts(3, seed=77)
    torch.testing.assert_close(*(each.forward(fresh.x, layers, SCALE) for each in (model, known)))


def test_only_layers_above_the_lowest_adapter_are_counted_backwards():
    everywhere = tiny_model(pattern="query").flops_per_sample(0)
    above = tiny_model(pattern=r"layer\.1\..*query").flops_per_sample(0)
    linear = 4 * 32 * 32 + 2 * 32 * 48
    attention = 4 * 9 * 32
    assert everywhere - above == 9 * (2 * linear + 2 * attention)
    rank_costs = tiny_model().flops_per_sample(3) - tiny_model().flops_per_sample(0)
    assert rank_costs == 9 * 6 * 3 * 64 * 4  # query and value of two layers


def test_a_bfloat16_base_rounds_the_frozen_products_only():
    exact = adapt(tiny_network(dtype=torch.float32), "query|value", tiny_heads(), 9).for_task(0)
    rounded = adapt(
        tiny_network(dtype=torch.float32), "query|value", tiny_heads(), 9, torch.bfloat16
    ).for_task(0)
    layers, split = random_factors(exact, dtype=torch.float32), random_texts(6)
    one, other = (model.device_gradients(layers, SCALE, pad([split])) for model in (exact, rounded))
    assert other.layers["encoder.layer.0.attention.self.query"].a.dtype == torch.float32
    torch.testing.assert_close(one.losses, other.losses, rtol=0.02, atol=0.02)
    assert not torch.equal(one.losses, other.losses)


def test_what_is_added_to_a_bfloat16_base_is_kept_and_multiplied_in_float32():
    network = tiny_network(dtype=torch.float32)
    model = adapt(network, "query|value", tiny_heads(), 9, torch.bfloat16).for_task(0)
    first, moved = model.base_weights, model
    for _ in range(8):  # each far below what bfloat16 resolves
        moved = moved.with_base_weights({name: w + 2**-14 for name, w in moved.base_weights.items()})
    for name, weight in moved.base_weights.items():
        torch.testing.assert_close(weight - first[name], torch.full_like(weight, 2**-11), rtol=0, atol=1e-6)
    texts = random_texts(6)
    one, other = (each.scores(texts.x, texts.y, {}, SCALE).losses for each in (model, moved))
    assert not torch.equal(one, other)


def test_a_pattern_that_is_found_nowhere_is_refused_with_the_names_there_are():
    with pytest.raises(DataError, match=r"'q_proj' is found in no linear layer; there are encoder\.layer\.0"):
        tiny_model(pattern="q_proj")


def test_a_head_policy_decides_with_which_classes_a_personal_model_answers_another_task():
    model = tiny_model()
    adapters = DualAdapters(random_factors(model, 2), random_factors(model, 1, stack=(3,), seed=4))
    trained = with_trained_heads(adapters, model.objective)
    tests = [random_texts(30, num_classes=classes, seed=classes) for classes in (2, 3, 4)]
    for own in (adapters, trained):
        tested, kept = (evaluate_across(model, own, SCALE, tests, policy).accuracy for policy in HeadPolicy)
        np.testing.assert_array_equal(tested.diagonal(), kept.diagonal())
        right = model.for_task(2).scores(*vars(tests[2]).values(), adapters.for_task(0), SCALE).right
        assert tested[0, 2] == right.mean()
        right = model.for_task(0).scores(*vars(tests[2]).values(), adapters.for_task(0), SCALE).right
        assert kept[0, 2] == right.mean() and not right[tests[2].y > 1].any()
        shared = evaluate_global(model, own, SCALE, tests).accuracy_per_task[1]
        assert (
            shared == model.for_task(1).scores(*vars(tests[1]).values(), adapters.shared, SCALE).right.mean()
        )


def test_two_threads_may_pass_two_chunks_through_one_base():
    model = tiny_model().for_task(0)
    work = [(random_factors(model, seed=seed), pad([random_texts(6, seed=seed)])) for seed in range(8)]
    alone = [flatten(model.device_gradients(layers, SCALE, batch).layers) for layers, batch in work]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda own: flatten(model.device_gradients(own[0], SCALE, own[1]).layers), work)
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one, other)
