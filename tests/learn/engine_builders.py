"""Cohorts with stacked adapters of mixed ranks, and gradients by autograd, device by device."""

import torch
from federation_builders import SCALE, random_model, random_split

from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.cnn import FrozenCNN
from airsim.learn.models.convolution import ImageShape, Window

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def random_cnn(dtype=torch.float64):
    rng = torch.Generator().manual_seed(7)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=dtype) / shape[-1] ** 0.5

    windows = (Window(kernel=3, stride=1, padding=1), Window(kernel=2, stride=2))
    weights = (draw(3, 2 * 3 * 3), draw(4, 3 * 2 * 2), draw(5, 4 * 3 * 2), draw(3, 5))
    return FrozenCNN(ImageShape(2, 6, 5), windows, weights, tuple(draw(w.shape[0]) for w in weights))


MODELS = {"mlp": random_model, "cnn": random_cnn}


def num_features(model):
    return model.image.features if isinstance(model, FrozenCNN) else model.layer_sizes[0]


def splits_for(model, sizes=(4, 9, 2, 5)):
    return [random_split(size, num_features(model), seed=20 + k) for k, size in enumerate(sizes)]


def common_layers(model, rank=3, seed=3):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: LoRAFactors(
            torch.randn(rank, shape.inputs, generator=rng, dtype=torch.float64) / 3,
            torch.randn(shape.outputs, rank, generator=rng, dtype=torch.float64) / 3,
        )
        for name, shape in model.layer_shapes.items()
    }


def stacked_layers(model, ranks=(3, 1, 2, 0)):
    """One adapter per device, filled up with zeros to the largest rank."""
    layers = {}
    for name in model.layer_names:
        alone = [common_layers(model, max(ranks), seed=30 + k)[name] for k in range(len(ranks))]
        a, b = torch.stack([f.a for f in alone]), torch.stack([f.b for f in alone])
        for device, rank in enumerate(ranks):
            a[device, rank:] = 0.0
            b[device, :, rank:] = 0.0
        layers[name] = LoRAFactors(a, b)
    return layers


def of_device(layers, device):
    """The adapters of one device, common or stacked."""
    return {name: f if f.a.ndim == 2 else LoRAFactors(f.a[device], f.b[device]) for name, f in layers.items()}


def autograd_gradients(model, layers, split):
    """Loss and gradients of one device with the adapters written as dense updates of plain torch layers."""
    leaves = {
        name: LoRAFactors(f.a.detach().clone().requires_grad_(), f.b.detach().clone().requires_grad_())
        for name, f in layers.items()
    }
    updates = {name: SCALE * (f.b @ f.a) for name, f in leaves.items()}
    loss = torch.nn.functional.cross_entropy(dense_forward(model, updates, split.x), split.y)
    loss.backward()
    return loss.detach(), {name: LoRAFactors(f.a.grad, f.b.grad) for name, f in leaves.items()}


def dense_forward(model, updates, x):
    """Logits by torch's own layers, with the updates added to the weights."""
    parts = list(zip(model.layer_names, model.weights, model.biases, strict=True))
    windows = model.windows if isinstance(model, FrozenCNN) else ()
    if windows:
        x = x.unflatten(-1, model.image)
    for (name, weight, bias), window in zip(parts, windows, strict=False):
        kernels = (weight + updates.get(name, 0.0)).unflatten(-1, (-1, window.kernel, window.kernel))
        x = torch.relu(torch.conv2d(x, kernels, bias, window.stride, window.padding))
    x = x.flatten(start_dim=1)
    for index, (name, weight, bias) in enumerate(parts[len(windows) :]):
        x = torch.nn.functional.linear(torch.relu(x) if index else x, weight + updates.get(name, 0.0), bias)
    return x
