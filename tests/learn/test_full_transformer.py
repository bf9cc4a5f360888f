"""All parameters of a transformer, or those of chosen layers, against torch's own autograd and optimisers."""

import copy

import pytest
import torch
from transformer_builders import PATTERNS, random_texts, tiny_heads, tiny_network

from airsim.learn.federated.full_training import FullTraining
from airsim.learn.federated.local_terms import (
    AbstractLocalTerm,
    ContrastiveTerm,
    ControlTerm,
    ProximalTerm,
)
from airsim.learn.federated.model_memory import fresh_memory
from airsim.learn.local_data import LocalData
from airsim.learn.models.heads import mean_pooling
from airsim.learn.models.trainable_transformer import train_adapted_layers, train_everything
from airsim.learn.models.transformer import adapt
from airsim.learn.operators.full_model import ModelStack
from airsim.learn.operators.local_objective import contrastive_loss, proximal_term
from airsim.learn.operators.model_payload import expand
from airsim.learn.optimisers import SGD, AdamW, Momentum
from airsim.learn.schedules import LocalSchedule
from airsim.randomness import RandomStreams

STREAMS, ROUND = RandomStreams(6), 2
DEVICES, SIZES, TASKS = (5, 0, 9), (4, 7, 2), (2, 0, 2)
SCHEDULE = LocalSchedule(batch=3, steps=2)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def trainable(kind, trained="all", trains_heads=True):
    pattern, choose = ("", train_everything) if trained == "all" else (PATTERNS[kind], train_adapted_layers)
    return choose(adapt(tiny_network(kind), pattern, tiny_heads(), sequence_length=9), trains_heads)


def splits():
    return [random_texts(size, seed=20 + size) for size in SIZES]


def perturbed(parameters, seed):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: x + torch.randn(x.shape, generator=rng, dtype=x.dtype) / 50 for name, x in parameters.items()
    }


def stacked(parameter_sets):
    return {name: torch.stack([one[name] for one in parameter_sets]) for name in parameter_sets[0]}


class PlainModel:
    """The network as transformers has it, with leaves for all parameters and for the heads."""

    def __init__(self, kind, model, parameters, task):
        self.network = copy.deepcopy(tiny_network(kind)).requires_grad_(True)
        heads = model.model.objective
        own = dict(self.network.named_parameters())
        for name in model.names:
            with torch.no_grad():
                own[name].copy_(parameters[name])
        self.leaves = {name: own[name] for name in model.names}
        self.weight = parameters.get("heads.weight", heads.weight).clone().requires_grad_()
        self.bias = parameters.get("heads.bias", heads.bias).clone().requires_grad_()
        if model.trains_heads:
            self.leaves |= {"heads.weight": self.weight, "heads.bias": self.bias}
        self.task, self.num_classes = task, int(heads.num_classes[task])

    def features(self, x):
        mask = (x >= 0).long()
        hidden = self.network(input_ids=x.clamp(min=0), attention_mask=mask).last_hidden_state
        return mean_pooling(hidden, mask > 0)

    def loss(self, x, y):
        logits = self.features(x) @ self.weight[self.task].T + self.bias[self.task]
        return torch.nn.functional.cross_entropy(logits[:, : self.num_classes], y)


def plain_training(plain, split, device, optimiser, extra=None, direction=None):
    steps, losses = optimiser(list(plain.leaves.values())), []
    for rows in SCHEDULE.rows(split.size, STREAMS.generator("local-batches", ROUND, device)):
        x, y = split.x[rows], split.y[rows]
        loss = plain.loss(x, y)
        steps.zero_grad()
        (loss if extra is None else loss + extra(plain, x)).backward()
        for name, leaf in plain.leaves.items():
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            leaf.grad += 0 if direction is None else direction[name]
        steps.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def assert_trained_alike(kind, model, before, term, optimisers, extra=None, direction=None):
    ours, theirs = optimisers
    training = FullTraining(model, SCHEDULE, ours, term)
    trained = training.run(before, LocalData(DEVICES, splits()), TASKS, (STREAMS, ROUND))
    for row, (device, split, task) in enumerate(zip(DEVICES, splits(), TASKS, strict=True)):
        start = {name: x[row] for name, x in before.parameters.items()}
        plain = PlainModel(kind, model, start, task)
        loss = plain_training(
            plain,
            split,
            device,
            theirs,
            None if extra is None else extra(start, row),
            None if direction is None else direction(row),
        )
        torch.testing.assert_close(trained.losses[row].double(), loss, rtol=1e-6, atol=1e-6)
        for name, leaf in plain.leaves.items():
            torch.testing.assert_close(trained.parameters[name][row], leaf.detach(), **EXACT)


SGD_PAIR = (SGD(0.1), lambda leaves: torch.optim.SGD(leaves, lr=0.1))
ADAMW_PAIR = (
    AdamW(0.02, weight_decay=0.03),
    lambda leaves: torch.optim.AdamW(leaves, lr=0.02, weight_decay=0.03),
)


@pytest.mark.parametrize(
    "kind, trained, heads, pair",
    [
        ("bert", "all", True, SGD_PAIR),
        ("gpt2", "all", False, ADAMW_PAIR),
        ("llama", "all", True, SGD_PAIR),
        ("bert", "adapted-layers", False, ADAMW_PAIR),
        ("gpt2", "adapted-layers", True, SGD_PAIR),
    ],
)
def test_local_steps_of_a_whole_transformer_are_those_of_a_plain_loop(kind, trained, heads, pair):
    model = trainable(kind, trained, heads)
    own = stacked([perturbed(model.parameters, seed) for seed in range(3)])
    assert_trained_alike(kind, model, ModelStack(own, own), AbstractLocalTerm(), pair)


def test_the_proximal_term_pulls_a_whole_transformer_as_autograd_does():
    model = trainable("bert")
    own = stacked([perturbed(model.parameters, seed) for seed in range(3)])

    def extra(start, row):
        return lambda plain, x: proximal_term(plain.leaves, start, 0.3)

    assert_trained_alike("bert", model, ModelStack(own, own), ProximalTerm(0.3), SGD_PAIR, extra)


def test_the_contrastive_term_reads_the_mean_hidden_states_as_autograd_does():
    model = trainable("bert")
    own = stacked([perturbed(model.parameters, seed) for seed in range(3)])
    previous = stacked([perturbed(model.parameters, seed) for seed in range(10, 13)])

    def extra(start, row):
        last = {name: x[row] for name, x in previous.items()}
        common, far = (PlainModel("bert", model, fixed, 0) for fixed in (start, last))
        return lambda plain, x: (
            0.8 * contrastive_loss(*(one.features(x) for one in (plain, common, far)), 0.5).mean()
        )

    term = ContrastiveTerm(0.8, 0.5, model.forward_with)
    assert_trained_alike("bert", model, ModelStack(own, previous), term, SGD_PAIR, extra)


def test_control_variates_correct_every_parameter_and_become_the_mean_gradient():
    model = trainable("bert")
    own = stacked([perturbed(model.parameters, seed) for seed in range(3)])
    private = stacked([perturbed(model.parameters, seed) for seed in range(10, 13)])
    common = perturbed(model.parameters, 20)
    term, before = ControlTerm(common), ModelStack(own, private)
    assert_trained_alike(
        "bert",
        model,
        before,
        term,
        SGD_PAIR,
        direction=lambda row: {name: common[name] - private[name][row] for name in common},
    )


def test_all_parameters_are_those_that_the_answer_depends_on():
    model = trainable("bert")
    every = dict(model.model.network.named_parameters())
    assert set(every) - set(model.names) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert set(model.parameters) == {*model.names, "heads.weight", "heads.bias"}
    assert "embeddings.word_embeddings.weight" in model.names


def test_the_matrices_of_adapted_layers_are_d_n_numbers_each_and_nothing_else():
    model = trainable("bert", "adapted-layers", trains_heads=False)
    sizes = [shape.inputs * shape.outputs for shape in model.model.layer_shapes.values()]
    assert [x.numel() for x in model.parameters.values()] == sizes


def test_a_device_leaves_the_heads_of_other_tasks_as_they_are():
    model = trainable("bert")
    before = ModelStack(expand(model.parameters, 3), {})
    training = FullTraining(model, SCHEDULE, SGD(0.1), AbstractLocalTerm())
    trained = training.run(before, LocalData(DEVICES, splits()), TASKS, (STREAMS, ROUND)).parameters
    for row, task in enumerate(TASKS):
        moved = (trained["heads.weight"][row] != model.parameters["heads.weight"]).any(dim=-1).any(dim=-1)
        assert moved.tolist() == [index == task for index in range(3)]


def test_two_rounds_with_memory_are_one_of_twice_the_steps():
    model, own = trainable("bert"), splits()
    before = ModelStack(expand(model.parameters, 3), {})
    training = FullTraining(model, LocalSchedule("full", steps=2), Momentum(0.05, 0.9), AbstractLocalTerm())
    data, draws = LocalData(DEVICES, own), (STREAMS, ROUND)
    memory = fresh_memory(training.optimiser, before.parameters)
    first = training.run(before, data, TASKS, draws, memory)
    second = training.run(ModelStack(first.parameters, {}), data, TASKS, draws, first.memory)
    at_once = FullTraining(model, LocalSchedule("full", steps=4), training.optimiser, training.term).run(
        before, data, TASKS, draws, memory
    )
    assert memory.counts.tolist() == [0, 0, 0] and second.memory.counts.tolist() == [4, 4, 4]
    for name, x in at_once.parameters.items():
        torch.testing.assert_close(second.parameters[name], x, **EXACT)


def test_operations_are_six_per_matrix_entry_and_token_where_all_is_trained():
    model = adapt(tiny_network("bert"), r"layer\.\d", tiny_heads(), 9)
    whole = train_everything(model, trains_heads=True)
    pooler, width, length, layers = 32 * 32, 32, 9, 2
    linears = sum(shape.inputs * shape.outputs for shape in model.layer_shapes.values())
    attention = layers * 4 * length * width
    assert whole.full_flops_per_sample() == length * (6 * linears + 4 * pooler + 3 * attention)
    assert whole.forward_flops_per_sample() == length * (2 * (linears + pooler) + attention)
