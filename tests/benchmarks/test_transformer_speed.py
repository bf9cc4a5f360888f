"""Work W3: twenty devices, one gradient each on a six-layer encoder, against a plain loop and matrix rate."""

import copy
import time

import pytest
import torch
import transformers

from airsim.learn.adapters import AdapterRanks, LoRAFactors, initial_adapters
from airsim.learn.batches import PaddedBatch
from airsim.learn.models.heads import random_heads
from airsim.learn.models.transformer import adapt
from airsim.randomness import RandomStreams

DEVICES, TEXTS, TOKENS, RANK, CLASSES = 20, 8, 64, 8, 4
WIDTH, INNER, LAYERS, WORDS = 384, 1536, 6, 2000
REPEATS = 3
STREAMS = RandomStreams(0)


class PlainAdapter(torch.nn.Module):
    """The usual module: the frozen layer, and two parameters beside it."""

    def __init__(self, base, factors):
        super().__init__()
        self.base = base
        self.a, self.b = torch.nn.Parameter(factors.a.clone()), torch.nn.Parameter(factors.b.clone())

    def forward(self, x):
        return self.base(x) + (x @ self.a.T) @ self.b.T


def encoder():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        intermediate_size=INNER,
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def plain_loop(network, factors, head, batch):
    """One device after the other, each with a backward pass of its own."""
    plain = copy.deepcopy(network).requires_grad_(False)
    for name, own in factors.items():
        plain.set_submodule(name, PlainAdapter(plain.get_submodule(name), own))
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    mask = torch.ones_like(batch.x[0])

    def gradients():
        found = []
        for x, y in zip(batch.x, batch.y, strict=True):
            pooled = plain(input_ids=x, attention_mask=mask).last_hidden_state.mean(dim=1)
            loss = torch.nn.functional.cross_entropy(pooled @ head.weight.T + head.bias, y)
            found.append(torch.autograd.grad(loss, trained))
        return found

    return gradients


def products_alone():
    """The frozen products of one pass forwards and backwards, but for the lowest layer's inputs."""
    rows = DEVICES * TEXTS * TOKENS
    shapes = [(WIDTH, WIDTH, 4), (WIDTH, INNER, 1), (INNER, WIDTH, 1)]
    pairs = [(torch.randn(rows, i), torch.randn(i, o), count) for i, o, count in shapes]

    def multiply():
        for x, weight, count in pairs:
            for _ in range(2 * LAYERS * count):
                torch.mm(x, weight)

    return multiply


@pytest.mark.benchmark
def test_gradients_of_twenty_devices_on_a_six_layer_encoder():
    network, heads = encoder(), random_heads([CLASSES], WIDTH, STREAMS)
    model = adapt(copy.deepcopy(network), "query|value", heads, TOKENS).for_task(0)
    start = initial_adapters(model.layer_shapes, 1, AdapterRanks(RANK, 0), 1.0, STREAMS).shared
    factors = {name: LoRAFactors(own.a, torch.randn(own.b.shape) * 0.05) for name, own in start.items()}
    shape = (DEVICES, TEXTS)
    batch = PaddedBatch(
        torch.randint(WORDS, (*shape, TOKENS)), torch.randint(CLASSES, shape), torch.full(shape, 1 / TEXTS)
    )
    loop = plain_loop(network, factors, model.objective, batch)
    work = {
        "plain loop": loop,
        "batched": lambda: model.device_gradients(factors, 1.0, batch),
        "products alone": products_alone(),
    }
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, run in work.items():
            begun = time.process_time()
            run()
            spent[name].append(time.process_time() - begun)
    cpu_s = {name: min(each) for name, each in spent.items()}
    print("\nW3, CPU seconds, least of", REPEATS, {name: round(one, 2) for name, one in cpu_s.items()})
    print(f"batched: {cpu_s['plain loop'] / cpu_s['batched']:.2f} times the plain loop,", end=" ")
    print(f"{cpu_s['products alone'] / cpu_s['batched']:.0%} of the matrix rate of its frozen products")
    one, other = loop()[3][0], model.device_gradients(factors, 1.0, batch).layers[model.layer_names[0]]
    torch.testing.assert_close(one, other.a[3], rtol=1e-3, atol=1e-6)
