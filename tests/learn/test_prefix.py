import pytest
import torch
from engine_builders import EXACT, MODELS, common_layers, splits_for
from federation_builders import SCALE

from airsim.learn import prefix
from airsim.learn.batches import gather
from airsim.learn.data.tasks import Split
from airsim.learn.local_data import LocalData
from airsim.learn.prefix import known_prefix, with_products


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_known_prefix_gives_the_gradients_of_the_samples_themselves(build, monkeypatch):
    monkeypatch.setattr(prefix, "ROWS_AT_A_TIME", 4)
    model, rows = build(), torch.tensor([[0, 3, 5], [9, 1, 2]])
    layers = {name: common_layers(model)[name] for name in model.layer_names[1:]}
    (samples,) = splits_for(model, (10,))
    known = known_prefix(model, samples, set(layers))
    found = model.device_gradients(layers, SCALE, gather(known.samples, rows, known.product))
    expected = model.device_gradients(layers, SCALE, gather(samples, rows))
    for name in layers:
        torch.testing.assert_close(found.layers[name].a, expected.layers[name].a, **EXACT)
        torch.testing.assert_close(found.layers[name].b, expected.layers[name].b, **EXACT)


def test_a_data_set_too_large_to_keep_stays_as_it_is(monkeypatch):
    model = MODELS["mlp"]()
    (samples,) = splits_for(model, (10,))
    product_bytes = sum(tensor.nbytes for tensor in model.below(samples.x, {"layer0"}))
    assert known_prefix(model, samples, {"layer0"}, product_bytes).product is not None
    assert known_prefix(model, samples, {"layer0"}, product_bytes - 1).product is None
    data = LocalData((0, 1), splits_for(model, (3, 4)))
    assert with_products(model, data, {"layer0"}).products is not None
    monkeypatch.setattr(prefix, "PRODUCT_BYTES_KEPT", 8)
    assert with_products(model, data, {"layer0"}) is data


def test_a_data_set_without_samples_has_no_product():
    model = MODELS["mlp"]()
    empty = Split(torch.zeros(0, 6, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    assert known_prefix(model, empty, {"layer0"}).product is None
