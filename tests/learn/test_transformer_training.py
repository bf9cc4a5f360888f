"""Local training of a transformer's adapters against torch's own autograd and optimisers."""

import pytest
import torch
from transformer_builders import SCALE, random_factors, random_texts, tiny_model

from airsim.learn.adapters import LoRAFactors
from airsim.learn.corrections import Proximal
from airsim.learn.local_data import LocalData
from airsim.learn.operators.payload import Live
from airsim.learn.optimisers import SGD, AdamW
from airsim.learn.schedules import LocalSchedule
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams

STREAMS, ROUND, PULL = RandomStreams(6), 2, 0.3
SCHEDULE = LocalSchedule(batch=3, steps=3)
OPTIMISERS = {
    "sgd": (SGD(0.1), lambda leaves: torch.optim.SGD(leaves, lr=0.1)),
    "adamw": (
        AdamW(0.02, weight_decay=0.03),
        lambda leaves: torch.optim.AdamW(leaves, lr=0.02, weight_decay=0.03),
    ),
}


def plain_loop(model, start, split, optimiser, device):
    """The same training by autograd, FedProx's term included: losses and final factors."""
    leaves = {
        n: LoRAFactors(f.a.clone().requires_grad_(), f.b.clone().requires_grad_()) for n, f in start.items()
    }
    steps = optimiser([part for f in leaves.values() for part in (f.a, f.b)])
    losses = []
    for rows in SCHEDULE.rows(split.size, STREAMS.generator("local-batches", ROUND, device)):
        loss = model.scores(split.x[rows], split.y[rows], leaves, SCALE).losses.mean()
        pull = sum(
            (now - then).square().sum()
            for name, f in leaves.items()
            for now, then in ((f.a, start[name].a), (f.b, start[name].b))
        )
        steps.zero_grad()
        (loss + PULL / 2 * pull).backward()
        steps.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean(), leaves


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_local_steps_of_a_transformer_are_those_of_a_plain_loop_device_by_device(kind, optimiser):
    model, (ours, theirs) = tiny_model(kind).for_task(0), OPTIMISERS[optimiser]
    splits = [random_texts(size, seed=20 + size) for size in (4, 7, 2)]
    layers = random_factors(model, stack=(3,))
    training = LocalTraining(model, SCALE, SCHEDULE, ours, Proximal(PULL))
    trained = training.run(layers, LocalData([5, 0, 9], splits), (STREAMS, ROUND))
    for row, (device, split) in enumerate(zip((5, 0, 9), splits, strict=True)):
        own = {name: factors.take(row) for name, factors in layers.items()}
        loss, wanted = plain_loop(model, own, split, theirs, device)
        torch.testing.assert_close(trained.losses[row], loss, rtol=1e-10, atol=1e-12)
        for name, factors in wanted.items():
            found = trained.layers[name].take(row)
            torch.testing.assert_close(found.a, factors.a.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(found.b, factors.b.detach(), rtol=1e-10, atol=1e-10)


def test_a_factor_that_is_not_live_stays_bit_for_bit():
    model = tiny_model().for_task(1)
    layers = random_factors(model, stack=(2,))
    splits = [random_texts(size, seed=size) for size in (3, 4)]
    live = dict.fromkeys(layers, Live.B)
    training = LocalTraining(model, SCALE, SCHEDULE, SGD(0.1), live=live)
    trained = training.run(layers, LocalData([0, 1], splits), (STREAMS, ROUND))
    for name, factors in layers.items():
        assert torch.equal(trained.layers[name].a, factors.a)
        assert not torch.equal(trained.layers[name].b, factors.b)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_changed_weights_count_in_place_of_the_networks_own_and_leave_it_as_it_is(kind):
    model, texts = tiny_model(kind).for_task(0), random_texts(3)
    layers = random_factors(model)
    increments = random_factors(model, seed=7)
    kept = model.base_weights
    merged = model.with_base_weights({n: kept[n] + SCALE * f.b @ f.a for n, f in increments.items()})
    both = {
        n: LoRAFactors(torch.cat((f.a, increments[n].a)), torch.cat((f.b, increments[n].b), dim=1))
        for n, f in layers.items()
    }
    torch.testing.assert_close(merged.forward(texts.x, layers, SCALE), model.forward(texts.x, both, SCALE))
    assert all(torch.equal(weight, kept[name]) for name, weight in model.base_weights.items())
    assert not torch.equal(merged.forward(texts.x, layers, SCALE), model.forward(texts.x, layers, SCALE))
