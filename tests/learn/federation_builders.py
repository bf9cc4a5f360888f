"""Small models, adapters and federations for the tests of the learning layer."""

import itertools

import numpy as np
import torch

from airsim.learn.adapters import AdapterRanks, DualAdapters, LoRAFactors
from airsim.learn.data.sources import ImageSource
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.models.mlp import FrozenMLP

SCALE = 0.7
RANKS = AdapterRanks(2, 1)


def random_model(sizes=(6, 7, 5, 3), seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    pairs = list(itertools.pairwise(sizes))
    weights = tuple(torch.randn(o, i, generator=rng, dtype=dtype) / i**0.5 for i, o in pairs)
    return FrozenMLP(weights, tuple(torch.randn(o, generator=rng, dtype=dtype) for _, o in pairs))


def random_adapters(model, num_tasks=3, ranks=RANKS, seed=1):
    rng = torch.Generator().manual_seed(seed)

    def factors(stack, shape, rank):
        a = torch.randn(*stack, rank, shape.inputs, generator=rng, dtype=model.weights[0].dtype)
        b = torch.randn(*stack, shape.outputs, rank, generator=rng, dtype=model.weights[0].dtype)
        return LoRAFactors(a / 3, b / 3)

    shapes = model.layer_shapes.items()
    shared = {name: factors((), shape, ranks.shared) for name, shape in shapes}
    return DualAdapters(
        shared, {name: factors((num_tasks,), shape, ranks.personal) for name, shape in shapes}
    )


def random_split(size, features=6, num_classes=3, seed=2, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(size, features, generator=rng, dtype=dtype)
    return Split(x, torch.randint(num_classes, (size,), generator=rng))


def random_federation(sizes_per_task=((4, 9, 2), (1, 5), (7, 7, 3)), dtype=torch.float64):
    sizes = [size for task in sizes_per_task for size in task]
    devices = tuple(random_split(size, seed=10 + k, dtype=dtype) for k, size in enumerate(sizes))
    tasks = tuple(task for task, members in enumerate(sizes_per_task) for _ in members)
    tests = tuple(random_split(8, seed=100 + task, dtype=dtype) for task in range(len(sizes_per_task)))
    return FederatedData(random_split(5, dtype=dtype), devices, tasks, tests, 3, "checksum")


def numbered_source(num_images=120, num_classes=4, num_test=0, side=3):
    """Images that can be told apart: the corner pixel carries the image's number, the next one a mark."""
    images = np.zeros((num_images + num_test, side, side), dtype=np.float32)
    images[:, 0, 0] = np.arange(num_images + num_test) / 1000
    images[:, 0, 1] = 1.0
    labels = np.arange(num_images + num_test, dtype=np.int64) % num_classes
    test = (images[num_images:], labels[num_images:]) if num_test else (None, None)
    return ImageSource("numbered", images[:num_images], labels[:num_images], *test, num_classes, "checksum")
