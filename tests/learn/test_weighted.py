import pytest
import torch
from engine_builders import EXACT, MODELS, common_layers, splits_for
from federation_builders import SCALE

from airsim.learn import moments, streaming
from airsim.learn.adapters import LoRAFactors, flatten
from airsim.learn.batches import gather, pad
from airsim.learn.data.tasks import Split
from airsim.learn.moments import StreamLayout
from airsim.learn.streaming import devices_per_chunk, stream_weighted
from airsim.learn.weighted import WeightedPass

SHARED_RANK, RANK = 2, 3
# Always through Gram products, always through gradients, and as chosen by size.
ROUTES = {"gram": 1e9, "gradients": 0, "by size": moments.GRAM_ADVANTAGE}


def passed(model, layers, merged=True):
    layout = StreamLayout(dict.fromkeys(layers, (SHARED_RANK, RANK - SHARED_RANK)))
    linears = model.merged_linears(layers, SCALE) if merged else model.linears(layers, SCALE)
    return WeightedPass(model, linears, layout)


def random_weights(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def payloads(gradients):
    """What each device would send in each stream: [shared K D, personal K D]."""
    halves = {name: factors.split(SHARED_RANK) for name, factors in gradients.layers.items()}
    return [flatten({name: pair[stream] for name, pair in halves.items()}) for stream in (0, 1)]


@pytest.fixture(params=ROUTES.values(), ids=ROUTES)
def route(request, monkeypatch):
    monkeypatch.setattr(moments, "GRAM_ADVANTAGE", request.param)


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "beside"])
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_one_pass_gives_the_weighted_sums_of_shared_and_personal_gradients(build, merged, route):
    model = build()
    layers, batch = common_layers(model, RANK), pad(splits_for(model))
    weights = random_weights(2, batch.num_devices, 2)
    found = passed(model, layers, merged)(batch, weights)
    each = model.device_gradients(layers, SCALE, batch)
    torch.testing.assert_close(found.losses, each.losses, **EXACT)
    for stream, sent in enumerate(payloads(each)):
        halves = {name: factors.split(SHARED_RANK)[stream] for name, factors in found.sums.items()}
        torch.testing.assert_close(flatten(halves), weights[:, :, stream] @ sent, **EXACT)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_same_pass_gives_mean_and_second_moment_of_what_each_device_would_send(build, route):
    model = build()
    layers, batch = common_layers(model, RANK), pad(splits_for(model))
    found = passed(model, layers)(batch, random_weights(1, batch.num_devices, 2)).moments
    for stream, sent in enumerate(payloads(model.device_gradients(layers, SCALE, batch))):
        assert found.entries[stream] == sent.shape[1]
        torch.testing.assert_close(found.mean[:, stream], sent.mean(dim=1), **EXACT)
        torch.testing.assert_close(found.second_moment[:, stream], sent.square().mean(dim=1), **EXACT)


def cohort(model, num_devices=37, rows=4, dtype=torch.float64):
    pool = splits_for(model, (50,))[0]
    pool = Split(pool.x.to(dtype), pool.y)
    picks = torch.randint(50, (num_devices, rows), generator=torch.Generator().manual_seed(9))
    return lambda devices: gather(pool, picks[devices.start : devices.stop])


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_streamed_cohort_gives_what_one_pass_over_all_devices_gives(build, monkeypatch):
    model = build()
    monkeypatch.setattr(streaming, "BYTES_PER_CHUNK", 4 * 10 * 4 * model.entries_per_sample)
    one_pass, draw = passed(model, common_layers(model, RANK)), cohort(model)
    assert devices_per_chunk(model, rows=4) == 10
    weights = random_weights(1, 37, 2)
    whole, streamed = one_pass(draw(range(37)), weights), stream_weighted(one_pass, draw, weights, rows=4)
    torch.testing.assert_close(streamed.losses, whole.losses, **EXACT)
    torch.testing.assert_close(streamed.moments.squares, whole.moments.squares, **EXACT)
    for name in whole.sums:
        torch.testing.assert_close(streamed.sums[name].a, whole.sums[name].a, **EXACT)
        torch.testing.assert_close(streamed.sums[name].b, whole.sums[name].b, **EXACT)


def test_the_bits_of_a_streamed_cohort_do_not_depend_on_the_number_of_threads(monkeypatch):
    sizes, rows, devices = (60, 40, 40, 10), 8, 200
    monkeypatch.setattr(streaming, "BYTES_PER_CHUNK", 2**18)
    model = MODELS["mlp"](sizes, dtype=torch.float32)
    layers = {name: LoRAFactors(f.a.float(), f.b.float()) for name, f in common_layers(model, RANK).items()}
    one_pass, draw = passed(model, layers), cohort(model, devices, rows, torch.float32)
    weights = random_weights(1, devices, 2).float()
    before = torch.get_num_threads()
    one, two = (stream_weighted(one_pass, draw, weights, rows, threads) for threads in (1, 2))
    assert torch.get_num_threads() == before
    assert devices_per_chunk(model, rows) < devices / 4
    assert torch.equal(one.losses, two.losses)
    assert torch.equal(one.moments.squares, two.moments.squares)
    assert all(
        torch.equal(one.sums[n].a, two.sums[n].a) and torch.equal(one.sums[n].b, two.sums[n].b)
        for n in layers
    )


def test_few_rows_go_through_gram_products_and_many_through_gradients():
    assert moments.prefers_gram(rows=4, components=16, width=784)
    assert not moments.prefers_gram(rows=32, components=16, width=784)


def test_a_pass_for_the_statistics_alone_takes_no_weights():
    model = MODELS["mlp"]()
    one_pass, batch = passed(model, common_layers(model, RANK)), pad(splits_for(model))
    alone, with_sums = (one_pass(batch, random_weights(sets, batch.num_devices, 2)) for sets in (0, 1))
    assert torch.equal(alone.moments.squares, with_sums.moments.squares)
    assert alone.sums["layer0"].a.shape[0] == 0
