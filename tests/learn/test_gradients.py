import pytest
import torch
from federation_builders import SCALE, random_adapters, random_federation, random_model, random_split

from airsim.learn.adapters import AdapterRanks, LoRAFactors, flatten, unflatten
from airsim.learn.batches import pad

RANKS = [AdapterRanks(2, 1), AdapterRanks(3, 0), AdapterRanks(0, 3)]


def mean_loss(model, layers, split):
    return torch.nn.functional.cross_entropy(model.forward(split.x, layers, SCALE), split.y)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_gradient_of_one_device_is_what_autograd_gives(ranks):
    model, split = random_model(), random_split(9)
    layers = {
        name: LoRAFactors(factors.a.requires_grad_(), factors.b.requires_grad_())
        for name, factors in random_adapters(model, ranks=ranks).for_task(1).items()
    }
    loss = mean_loss(model, layers, split)
    loss.backward()
    with torch.no_grad():
        result = model.device_gradients(layers, SCALE, pad([split]))
    torch.testing.assert_close(result.losses[0], loss.detach())
    for name, factors in layers.items():
        torch.testing.assert_close(result.layers[name].a[0], factors.a.grad)
        torch.testing.assert_close(result.layers[name].b[0], factors.b.grad)


def test_the_gradient_predicts_how_the_loss_moves_along_any_direction():
    model, split = random_model(), random_split(9)
    layers = random_adapters(model).for_task(0)
    start = flatten(layers)
    gradient = flatten(model.device_gradients(layers, SCALE, pad([split])).layers)[0]
    for seed in range(5):
        direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed), dtype=start.dtype)
        ahead, behind = (
            mean_loss(model, unflatten(start + step * direction, layers), split) for step in (1e-6, -1e-6)
        )
        torch.testing.assert_close((ahead - behind) / 2e-6, gradient @ direction, rtol=1e-6, atol=1e-8)


def test_padding_changes_no_device():
    model = random_model()
    layers = random_adapters(model).for_task(2)
    splits = [random_split(size, seed=size) for size in (1, 8, 3)]
    together = model.device_gradients(layers, SCALE, pad(splits))
    for device, split in enumerate(splits):
        alone = model.device_gradients(layers, SCALE, pad([split]))
        torch.testing.assert_close(together.losses[device], alone.losses[0])
        torch.testing.assert_close(flatten(together.layers)[device], flatten(alone.layers)[0])


def test_the_size_weighted_mean_over_devices_is_the_gradient_of_the_pooled_data():
    model, splits = random_model(), random_federation().devices[:3]
    layers = random_adapters(model).for_task(0)
    sizes = torch.tensor([split.size for split in splits], dtype=torch.float64)
    separate = flatten(model.device_gradients(layers, SCALE, pad(splits)).layers)
    pooled = type(splits[0])(torch.cat([s.x for s in splits]), torch.cat([s.y for s in splits]))
    whole = flatten(model.device_gradients(layers, SCALE, pad([pooled])).layers)[0]
    torch.testing.assert_close(sizes / sizes.sum() @ separate, whole)
