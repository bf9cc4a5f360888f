import pytest
import torch
from federation_builders import SCALE, random_adapters, random_model, random_split

from airsim.learn.adapters import AdapterRanks, fuse
from airsim.learn.models.mlp import FrozenMLP


@pytest.mark.parametrize("ranks", [AdapterRanks(2, 1), AdapterRanks(3, 0), AdapterRanks(0, 3)])
def test_an_adapted_model_is_the_model_with_both_updates_merged_into_its_weights(ranks):
    model, x = random_model(), random_split(11).x
    adapters = random_adapters(model, ranks=ranks)
    for task in range(adapters.num_tasks):
        merged = []
        for name, weight in zip(model.layer_names, model.weights, strict=True):
            shared, personal = adapters.shared[name], adapters.personal[name]
            merged.append(weight + SCALE * (shared.b @ shared.a + personal.b[task] @ personal.a[task]))
        expected = x
        for index, (weight, bias) in enumerate(zip(merged, model.biases, strict=True)):
            expected = (expected.clamp(min=0) if index else expected) @ weight.T + bias
        torch.testing.assert_close(model.forward(x, adapters.for_task(task), SCALE), expected)


def test_a_stack_of_devices_gives_what_each_device_gives_alone():
    model, tasks = random_model(), (2, 0, 0, 1)
    adapters = random_adapters(model)
    x = torch.stack([random_split(5, seed=k).x for k in range(len(tasks))])
    stacked = adapters.for_devices(tasks)
    layers = {name: fuse(stacked.shared[name], stacked.personal[name]) for name in stacked.shared}
    together = model.forward(x, layers, SCALE)
    for device, task in enumerate(tasks):
        torch.testing.assert_close(together[device], model.forward(x[device], adapters.for_task(task), SCALE))


def test_operations_of_a_single_layer_are_its_products():
    model = random_model(sizes=(10, 4))
    # x W^T, x A^T, (xA^T) B^T; then d B, d^T h and (d B)^T x; nothing goes back to the input.
    by_hand = 2 * 10 * 4 + 2 * 3 * 10 + 2 * 3 * 4 + 2 * 3 * 4 + 2 * 3 * 4 + 2 * 3 * 10
    assert model.flops_per_sample(rank=3) == by_hand


def test_layers_that_do_not_fit_together_are_refused_with_their_shapes():
    with pytest.raises(ValueError, match=r"layer 1: weight \(2, 5\)"):
        FrozenMLP((torch.zeros(4, 3), torch.zeros(2, 5)), (torch.zeros(4), torch.zeros(2)))
    with pytest.raises(ValueError, match="give one of each"):
        FrozenMLP((torch.zeros(4, 3),), ())
