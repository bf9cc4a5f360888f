import functools

import pytest
import torch
from engine_builders import (
    EXACT,
    MODELS,
    autograd_gradients,
    common_layers,
    of_device,
    splits_for,
    stacked_layers,
)
from federation_builders import SCALE

from airsim.learn import training
from airsim.learn.adapters import LoRAFactors
from airsim.learn.corrections import ControlVariates, Proximal
from airsim.learn.local_data import LocalData
from airsim.learn.local_state import fresh_state
from airsim.learn.optimisers import SGD, AdamW, DenseGradient, Momentum, new_slots
from airsim.learn.schedules import LocalSchedule
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams

STREAMS = RandomStreams(6)
ROUND = 2
SIZES = (4, 9, 9, 7)
OPTIMISERS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd with decay": (SGD(0.1, 0.02), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.02)),
    "momentum": (
        Momentum(0.05, 0.8, 0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.01),
    ),
    "adamw": (
        AdamW(0.02, (0.8, 0.95), 1e-6, 0.03),
        lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.03),
    ),
}
# Every device alone, and as many side by side as take equally many steps.
CHUNKS = {"alone": 1, "side by side": 2**20}


@pytest.fixture(params=CHUNKS.values(), ids=CHUNKS)
def chunking(request, monkeypatch):
    monkeypatch.setattr(training, "TRAINED_BYTES_PER_CHUNK", request.param)


def torch_loop(model, layers, split, schedule, torch_optimiser, device, correct=None):
    """The same training by torch's own layers, autograd and optimiser: losses and final factors."""
    leaves = {
        name: LoRAFactors(f.a.clone().requires_grad_(), f.b.clone().requires_grad_())
        for name, f in layers.items()
    }
    optimiser = torch_optimiser([tensor for f in leaves.values() for tensor in (f.a, f.b)])
    losses = []
    for rows in schedule.rows(split.size, STREAMS.generator("local-batches", ROUND, device)):
        detached = {name: LoRAFactors(f.a.detach(), f.b.detach()) for name, f in leaves.items()}
        loss, gradients = autograd_gradients(model, detached, type(split)(split.x[rows], split.y[rows]))
        losses.append(loss)
        for name, f in leaves.items():
            f.a.grad, f.b.grad = gradients[name].a, gradients[name].b
            if correct:
                extra = correct(name, detached[name])
                f.a.grad, f.b.grad = f.a.grad + extra.a, f.b.grad + extra.b
        optimiser.step()
    final = {name: LoRAFactors(f.a.detach(), f.b.detach()) for name, f in leaves.items()}
    return torch.stack(losses).mean(), final


def assert_same_factors(found, expected):
    for name in expected:
        torch.testing.assert_close(found[name].a, expected[name].a, **EXACT)
        torch.testing.assert_close(found[name].b, expected[name].b, **EXACT)


def local_data(model, devices=(5, 0, 3, 8)):
    return LocalData(devices, splits_for(model, SIZES))


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("kind", ["common", "stacked"])
def test_local_training_is_what_a_plain_torch_loop_does_device_by_device(name, kind, chunking):
    model, (optimiser, torch_optimiser) = MODELS["mlp"](), OPTIMISERS[name]
    layers = {"common": common_layers, "stacked": stacked_layers}[kind](model)
    data, schedule = local_data(model), LocalSchedule(batch=4, epochs=2)
    found = LocalTraining(model, SCALE, schedule, optimiser).run(layers, data, (STREAMS, ROUND))
    for place, (device, split) in enumerate(zip(data.devices, data.splits, strict=True)):
        start = of_device(layers, place)
        loss, expected = torch_loop(model, start, split, schedule, torch_optimiser, device)
        torch.testing.assert_close(found.losses[place], loss, **EXACT)
        assert_same_factors(of_device(found.layers, place), expected)


def test_a_cnn_trains_as_a_plain_torch_loop_does(chunking):
    model, schedule = MODELS["cnn"](), LocalSchedule(batch=3, steps=4)
    layers, data = common_layers(model), local_data(model)
    found = LocalTraining(model, SCALE, schedule, SGD(0.1)).run(layers, data, (STREAMS, ROUND))
    for place, (device, split) in enumerate(zip(data.devices, data.splits, strict=True)):
        _, expected = torch_loop(model, layers, split, schedule, OPTIMISERS["sgd"][1], device)
        assert_same_factors(of_device(found.layers, place), expected)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_factors_filled_up_with_zeros_keep_them_through_training(name, chunking):
    model, ranks = MODELS["mlp"](), (3, 1, 2, 0)
    task = LocalTraining(model, SCALE, LocalSchedule(batch=4, epochs=2), OPTIMISERS[name][0])
    found = task.run(stacked_layers(model, ranks), local_data(model), (STREAMS, ROUND))
    for factors in found.layers.values():
        for device, rank in enumerate(ranks):
            assert not factors.a[device, rank:].any()
            assert not factors.b[device, :, rank:].any()
        assert factors.a[0].any()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_whose_state_is_kept_goes_on_as_if_there_had_been_one_round(name, chunking):
    model = MODELS["mlp"]()
    layers, data = common_layers(model), LocalData((1, 2), splits_for(model, (6, 6)))

    def train(steps, start, state=None):
        task = LocalTraining(model, SCALE, LocalSchedule("full", steps=steps), OPTIMISERS[name][0])
        return task.run(start, data, (STREAMS, 0), state)

    first = train(2, layers)
    second = train(3, first.layers, first.state)
    assert_same_factors(second.layers, train(5, layers).layers)
    assert second.state.counts.tolist() == [5, 5]


def test_the_state_of_those_who_took_part_goes_back_to_its_place():
    model = MODELS["mlp"]()
    layers = common_layers(model)
    kept = fresh_state(Momentum(0.1), layers, 4)
    data = LocalData((3, 1), splits_for(model, (5, 5)))
    task = LocalTraining(model, SCALE, LocalSchedule(batch="full", steps=1), Momentum(0.1))
    after = task.run(layers, data, (STREAMS, 0), kept.take((3, 1))).state
    kept = kept.put((3, 1), after)
    assert kept.counts.tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(kept.slots["layer0"][0].b[3], after.slots["layer0"][0].b[0])
    assert not kept.slots["layer0"][0].a[[0, 2]].any()


def test_products_below_the_lowest_adapter_change_nothing_but_the_time(chunking):
    model = MODELS["mlp"]()
    layers, data = common_layers(model), local_data(model)
    below = [model.below(split.x, set(layers)) for split in data.splits]
    known = LocalData(data.devices, data.splits, [product for _, product in below])
    task = LocalTraining(model, SCALE, LocalSchedule(batch=4, epochs=1), SGD(0.1))
    with_products, without = (task.run(layers, d, (STREAMS, ROUND)) for d in (known, data))
    assert_same_factors(with_products.layers, without.layers)


def test_proximal_and_control_terms_are_added_to_every_gradient(chunking):
    model, schedule = MODELS["mlp"](), LocalSchedule(batch=4, epochs=1)
    layers, data = common_layers(model), local_data(model)
    server, own = common_layers(model, seed=50), stacked_layers(model, ranks=(3,) * 9)

    def pull(device, name, now):
        return LoRAFactors(0.3 * (now.a - layers[name].a), 0.3 * (now.b - layers[name].b))

    def drift(device, name, now):
        return LoRAFactors(server[name].a - own[name].a[device], server[name].b - own[name].b[device])

    for rule, by_hand in ((Proximal(0.3), pull), (ControlVariates(server, own), drift)):
        task = LocalTraining(model, SCALE, schedule, SGD(0.1), rule)
        found = task.run(layers, data, (STREAMS, ROUND))
        for place, (device, split) in enumerate(zip(data.devices, data.splits, strict=True)):
            correct = functools.partial(by_hand, device)
            _, expected = torch_loop(model, layers, split, schedule, OPTIMISERS["sgd"][1], device, correct)
            assert_same_factors(of_device(found.layers, place), expected)


def test_the_bits_of_training_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(training, "TRAINED_BYTES_PER_CHUNK", 2**12)
    model = MODELS["mlp"]((60, 40, 10), dtype=torch.float32)
    layers = {n: LoRAFactors(f.a.float(), f.b.float()) for n, f in common_layers(model).items()}
    splits = [type(s)(s.x.float(), s.y) for s in splits_for(model, (30, 30, 20, 20, 30, 10))]
    task = LocalTraining(model, SCALE, LocalSchedule(batch=8, epochs=2), Momentum(0.1))
    one, two = (
        task.run(layers, LocalData(range(6), splits), (STREAMS, 0), threads=threads) for threads in (1, 2)
    )
    assert torch.equal(one.losses, two.losses)
    for name in layers:
        assert torch.equal(one.layers[name].a, two.layers[name].a)
        assert torch.equal(one.layers[name].b, two.layers[name].b)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_server_step_on_an_aggregate_is_that_of_torch(name):
    optimiser, torch_optimiser = OPTIMISERS[name]
    rng = torch.Generator().manual_seed(1)
    ours = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    gradients = torch.randn(5, 3, 4, generator=rng)
    theirs = ours.clone().requires_grad_()
    slots, reference = new_slots(optimiser, ours), torch_optimiser([theirs])
    for step, gradient in enumerate(gradients.double()):
        optimiser.step(ours, DenseGradient(gradient), slots, torch.tensor(step + 1))
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), **EXACT)


def test_a_schedule_uses_every_sample_once_per_epoch_and_asks_for_one_way_to_end():
    rows = LocalSchedule(batch=4, epochs=2).rows(9, STREAMS.generator("local-batches", 0, 0))
    assert [len(step) for step in rows] == [4, 4, 1] * 2
    assert sorted(index for step in rows[:3] for index in step) == list(range(9))
    assert len(LocalSchedule(batch=4, steps=5).rows(9, STREAMS.generator("local-batches", 0, 0))) == 5
    with pytest.raises(ValueError, match="exactly one"):
        LocalSchedule(batch=4, epochs=1, steps=1)
    with pytest.raises(ValueError, match="steps = 0"):
        LocalSchedule(batch=4, steps=0)
