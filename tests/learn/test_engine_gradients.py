import dataclasses

import pytest
import torch
from engine_builders import (
    EXACT,
    MODELS,
    autograd_gradients,
    common_layers,
    dense_forward,
    of_device,
    splits_for,
    stacked_layers,
)
from federation_builders import SCALE

from airsim.learn.batches import gather, pad
from airsim.learn.data.tasks import Split

LAYERS = {"common": common_layers, "stacked": stacked_layers}


def assert_gradients_are_those_of_autograd(model, layers, splits, found):
    for device, split in enumerate(splits):
        loss, expected = autograd_gradients(model, of_device(layers, device), split)
        torch.testing.assert_close(found.losses[device], loss, **EXACT)
        for name in layers:
            torch.testing.assert_close(found.layers[name].a[device], expected[name].a, **EXACT)
            torch.testing.assert_close(found.layers[name].b[device], expected[name].b, **EXACT)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_every_devices_gradient_is_that_of_autograd_with_common_and_with_stacked_ranks(build, kind):
    model = build()
    layers, splits = LAYERS[kind](model), splits_for(model)
    found = model.device_gradients(layers, SCALE, pad(splits))
    assert_gradients_are_those_of_autograd(model, layers, splits, found)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_gradients_beyond_a_devices_rank_are_exactly_zero(build):
    model, ranks = build(), (3, 1, 2, 0)
    found = model.device_gradients(stacked_layers(model, ranks), SCALE, pad(splits_for(model)))
    for factors in found.layers.values():
        for device, rank in enumerate(ranks):
            assert not factors.a[device, rank:].any()
            assert not factors.b[device, :, rank:].any()


@pytest.mark.parametrize("lowest", [0, 1, 2])
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_layers_below_the_lowest_adapter_may_be_computed_once_per_data_set(build, lowest):
    model = build()
    layers = {name: common_layers(model)[name] for name in model.layer_names[lowest:]}
    splits = splits_for(model, (5, 5, 5))
    pooled = Split(torch.cat([s.x for s in splits]), torch.cat([s.y for s in splits]))
    inputs, product = model.below(pooled.x, set(layers))
    batch = gather(Split(inputs, pooled.y), torch.arange(15).view(3, 5), product)
    found = model.device_gradients(layers, SCALE, batch)
    assert_gradients_are_those_of_autograd(model, layers, splits, found)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_layer_without_an_adapter_between_adapted_ones_stays_as_it_is(build):
    model = build()
    layers = {name: f for name, f in common_layers(model).items() if name != model.layer_names[1]}
    splits = splits_for(model)
    found = model.device_gradients(layers, SCALE, pad(splits))
    assert list(found.layers) == [name for name in model.layer_names if name in layers]
    assert_gradients_are_those_of_autograd(model, layers, splits, found)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_logits_are_those_of_torch_layers_with_the_updates_merged_into_the_weights(build):
    model = build()
    layers, x = common_layers(model), splits_for(model, (6,))[0].x
    updates = {name: SCALE * (f.b @ f.a) for name, f in layers.items()}
    expected = dense_forward(model, updates, x)
    torch.testing.assert_close(model.forward(x, layers, SCALE), expected, **EXACT)
    torch.testing.assert_close(model.logits(x, model.absorbed_linears(layers, SCALE)), expected, **EXACT)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_adapters_on_no_layer_of_the_model_are_refused_with_the_layers_it_has(build):
    model = build()
    with pytest.raises(ValueError, match=model.layer_names[0]):
        model.below(splits_for(model)[0].x, {"attention"})


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_base_in_half_precision_moves_gradients_by_its_rounding_only(build):
    model = build()
    layers, batch = common_layers(model), pad(splits_for(model))
    exact = model.device_gradients(layers, SCALE, batch)
    rounded = model.with_base_dtype(torch.bfloat16).device_gradients(layers, SCALE, batch)
    for name in layers:
        assert rounded.layers[name].a.dtype == torch.float64
        error = (rounded.layers[name].a - exact.layers[name].a).norm() / exact.layers[name].a.norm()
        # bfloat16 keeps eight bits, and a few rectifiers change sides.
        assert 0 < error < 0.1


def test_a_convolution_that_does_not_fit_its_image_is_refused_with_the_width_it_needs():
    model = MODELS["cnn"]()
    with pytest.raises(ValueError, match=r"layer 1: .* width 12"):
        dataclasses.replace(model, weights=(model.weights[0], model.weights[1][:, :5], *model.weights[2:]))
    with pytest.raises(ValueError, match="convolutions first"):
        dataclasses.replace(model, weights=model.weights[:2], biases=model.biases[:2])
