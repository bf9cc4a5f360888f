"""The learning work W1 and W2: an epoch of ten large clients, and a gradient of very many small devices."""

import itertools
import os
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, linear

from airsim.learn.adapters import LoRAFactors
from airsim.learn.data.sources import load_mnist
from airsim.learn.data.tasks import Split
from airsim.learn.models.mlp import FrozenMLP

SIZES = (784, 200, 200, 10)


def image_pool(samples):
    """MNIST where AIRSIM_DATA_DIR has it, otherwise uniform noise: the work is the same."""
    folder = os.environ.get("AIRSIM_DATA_DIR")
    if folder and samples <= 60_000:
        source = load_mnist(Path(folder))
        x = torch.from_numpy(source.images[:samples]).flatten(start_dim=1)
        return Split(x, torch.from_numpy(source.labels[:samples]))
    rng = torch.Generator().manual_seed(0)
    return Split(torch.rand(samples, SIZES[0], generator=rng), torch.randint(10, (samples,), generator=rng))


def base_model():
    rng = torch.Generator().manual_seed(1)
    pairs = itertools.pairwise(SIZES)
    weights = tuple(torch.randn(o, i, generator=rng) * (2 / i) ** 0.5 for i, o in pairs)
    return FrozenMLP(weights, tuple(torch.zeros(weight.shape[0]) for weight in weights))


def adapters(model, ranks):
    rng = torch.Generator().manual_seed(2)
    return {
        name: LoRAFactors(
            torch.randn(rank, shape.inputs, generator=rng) / shape.inputs**0.5,
            torch.randn(shape.outputs, rank, generator=rng) * 0.01,
        )
        for rank, (name, shape) in zip(ranks, model.layer_shapes.items(), strict=True)
    }


def plain_logits(model, layers, x):
    """Forward pass as anybody writes it, for autograd."""
    for index, name in enumerate(model.layer_names):
        x = torch.relu(x) if index else x
        update = linear(linear(x, layers[name].a), layers[name].b)
        x = linear(x, model.weights[index], model.biases[index]) + update
    return x


def leaves_of(layers):
    """Copies of the factors that autograd follows."""
    copies = {
        n: LoRAFactors(f.a.clone().requires_grad_(), f.b.clone().requires_grad_()) for n, f in layers.items()
    }
    return copies, [tensor for f in copies.values() for tensor in (f.a, f.b)]


def plain_gradient_sum(model, layers, pool, rows):
    """W2 by a loop over devices: gradient by autograd, added up."""
    copies, parameters = leaves_of(layers)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for chosen in rows:
        loss = cross_entropy(plain_logits(model, copies, pool.x[chosen]), pool.y[chosen])
        for sum_so_far, gradient in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            sum_so_far.add_(gradient, alpha=1 / len(rows))
    return total


def vmapped_gradients(model, layers, pool, rows):
    """W2 by `torch.func`: the gradients of all devices at once, then their mean."""

    def loss(factors, x, y):
        layers = {name: LoRAFactors(*pair) for name, pair in factors.items()}
        return cross_entropy(plain_logits(model, layers, x), y)

    factors = {name: (f.a, f.b) for name, f in layers.items()}
    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(factors, pool.x[rows], pool.y[rows])
    return [gradient.mean(dim=0) for pair in each.values() for gradient in pair]


def plain_epoch(model, layers, splits, batch, learning_rate):
    """W1 by a loop over devices and batches, with torch's own optimiser; then the mean of the factors."""
    finals = []
    for split in splits:
        copies, parameters = leaves_of(layers)
        optimiser = torch.optim.SGD(parameters, lr=learning_rate)
        for chosen in torch.randperm(split.size).split(batch):
            optimiser.zero_grad()
            cross_entropy(plain_logits(model, copies, split.x[chosen]), split.y[chosen]).backward()
            optimiser.step()
        finals.append([parameter.detach() for parameter in parameters])
    return [torch.stack(column).mean(dim=0) for column in zip(*finals, strict=True)]


def interleaved(works, repeats):
    """CPU and wall seconds of every work, run in turns: medians by name."""
    spent = {name: ([], []) for name in works}
    for work in works.values():
        work()
    for _ in range(repeats):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent[name][0].append(time.process_time() - cpu)
            spent[name][1].append(time.perf_counter() - wall)
    return {name: tuple(sorted(column)[repeats // 2] for column in pair) for name, pair in spent.items()}
