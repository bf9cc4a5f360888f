import pytest
import torch
from federation_builders import SCALE, random_adapters, random_model, random_split
from hypothesis import given
from hypothesis import strategies as st

from airsim.learn.adapters import (
    AdapterRanks,
    LayerShape,
    LoRAFactors,
    flatten,
    fuse,
    initial_adapters,
    payload_size,
    unflatten,
)
from airsim.randomness import RandomStreams

SHAPES = {"layer0": LayerShape(9, 4), "layer1": LayerShape(4, 3)}


def test_initial_adapters_change_nothing_and_tasks_start_alike():
    model, x = random_model(dtype=torch.float32), random_split(4, dtype=torch.float32).x
    adapters = initial_adapters(model.layer_shapes, 3, AdapterRanks(2, 1), 1.0, RandomStreams(0))
    bare = initial_adapters(model.layer_shapes, 3, AdapterRanks(0, 0), 1.0, RandomStreams(0))
    expected = model.forward(x, bare.for_task(0), SCALE)
    for task in range(3):
        torch.testing.assert_close(model.forward(x, adapters.for_task(task), SCALE), expected)
        assert torch.equal(adapters.personal["layer1"].a[task], adapters.personal["layer1"].a[0])


def test_initial_factors_fill_the_interval_of_the_fan_in():
    shapes = {"layer0": LayerShape(100, 4)}
    a = initial_adapters(shapes, 1, AdapterRanks(50, 1), 2.0, RandomStreams(3)).shared["layer0"].a
    assert a.abs().max() <= 0.2
    assert a.abs().max() > 0.199
    assert a.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.03)


def test_one_adapter_does_not_move_the_start_of_the_other():
    wide = initial_adapters(SHAPES, 2, AdapterRanks(3, 1), 1.0, RandomStreams(5))
    narrow = initial_adapters(SHAPES, 2, AdapterRanks(0, 1), 1.0, RandomStreams(5))
    assert torch.equal(wide.personal["layer1"].a, narrow.personal["layer1"].a)


def test_a_payload_holds_b_and_then_a_layer_by_layer():
    layers = {
        "first": LoRAFactors(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0]])),
        "second": LoRAFactors(torch.tensor([[6.0]]), torch.tensor([[5.0]])),
    }
    assert flatten(layers).tolist() == [1, 2, 3, 4, 5, 6]
    assert payload_size(layers) == 6


@given(shared=st.integers(0, 3), personal=st.integers(0, 3), num_tasks=st.integers(1, 4))
def test_unflatten_inverts_flatten_for_any_ranks(shared, personal, num_tasks):
    adapters = random_adapters(random_model(), num_tasks, AdapterRanks(shared, personal))
    assert adapters.ranks == (shared, personal)
    for layers, stack in ((adapters.shared, ()), (adapters.personal, (num_tasks,))):
        payload = flatten(layers)
        assert payload.shape == (*stack, payload_size(layers))
        for name, factors in unflatten(payload, layers).items():
            assert torch.equal(factors.a, layers[name].a)
            assert torch.equal(factors.b, layers[name].b)


def test_a_payload_of_the_wrong_length_is_refused():
    layers = random_adapters(random_model()).shared
    with pytest.raises(ValueError, match="payload has 3 entries but the adapters have"):
        unflatten(torch.zeros(3), layers)


def test_splitting_undoes_fusing():
    adapters = random_adapters(random_model())
    shared, personal = adapters.shared["layer1"], adapters.personal["layer1"].take(2)
    again = fuse(shared, personal).split(shared.rank)
    for before, after in zip((shared, personal), again, strict=True):
        assert torch.equal(before.a, after.a)
        assert torch.equal(before.b, after.b)


def test_devices_see_one_shared_adapter_and_not_copies_of_it():
    adapters = random_adapters(random_model())
    stacked = adapters.for_devices((0, 2, 2))
    assert stacked.shared["layer0"].a.shape[0] == 3
    assert stacked.shared["layer0"].a.data_ptr() == adapters.shared["layer0"].a.data_ptr()
    assert torch.equal(stacked.personal["layer0"].b[1], adapters.personal["layer0"].b[2])


def test_every_factor_has_a_name_in_a_file():
    adapters = random_adapters(random_model())
    tensors = adapters.named_tensors()
    assert len(tensors) == 2 * 2 * len(adapters.shared)
    assert torch.equal(tensors["personal.layer2.b"], adapters.personal["layer2"].b)
