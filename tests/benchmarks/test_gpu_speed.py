"""W2 with ten thousand devices and W3 with a hundred on a GPU: time per round and share of its matrix rate.

The plain loop runs on the same chip, interleaved. Skipped where torch has no GPU.
"""

import copy
import time

import pytest
import torch
from learning_work import adapters, base_model, image_pool, plain_gradient_sum
from test_learning_speed import BATCH, PRODUCTS, RANKS, weighted_round
from test_transformer_speed import CLASSES, RANK, STREAMS, TOKENS, WIDTH, WORDS, encoder, plain_loop

from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.batches import PaddedBatch
from airsim.learn.models.heads import random_heads
from airsim.learn.models.transformer import adapt

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here"),
]

MATRIX_SIDE = 8192
REPEATS = 5


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(works, device, repeats=REPEATS):
    """Wall seconds of every work by name, in turns, the least of some after one to warm up."""
    spent = {name: [] for name in works}
    for index in range(repeats + 1):
        for name, work in works.items():
            synchronise(device)
            begun = time.perf_counter()
            work()
            synchronise(device)
            if index:
                spent[name].append(time.perf_counter() - begun)
    return {name: min(each) for name, each in spent.items()}


def matrix_rate(device, dtype=torch.float32, side=MATRIX_SIDE):
    """Operations per second of one large product, as torch multiplies unless told otherwise."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    spent = seconds({"product": lambda: left @ right}, device)
    return 2 * side**3 / spent["product"]


def report(title, spent, flops, rate):
    for name, wall_s in spent.items():
        ratio = spent["plain loop"] / wall_s
        share = flops / wall_s / rate
        print(
            f"{title}: {name}: {wall_s * 1e3:.1f} ms, plain / this = {ratio:.1f}, {share:.1%} of matrix rate"
        )


def small_device_flops(model, layers):
    """Operations of one sample where the lowest frozen product is known, as in `flops_per_sample`."""
    shapes = list(model.layer_shapes.values())
    frozen = 4 * sum(shape.inputs * shape.outputs for shape in shapes[1:])
    thin = [factors.rank * sum(shape) for factors, shape in zip(layers.values(), shapes, strict=True)]
    return frozen + 6 * sum(thin) - 2 * next(iter(layers.values())).rank * shapes[0].inputs


def many_small_devices(device, num_devices, repeats=REPEATS):
    """Seconds of a round of W2 with weights given, of its plain loop, and operations."""
    samples = min(60 * num_devices, 60_000)
    model, pool = base_model().to(device), image_pool(samples).to(device)
    layers = {name: factors.to(device) for name, factors in adapters(model, RANKS["W2"]).items()}
    PRODUCTS[id(pool)] = model.below(pool.x, set(layers))
    rng = torch.Generator().manual_seed(3)
    rows = torch.randint(samples, (num_devices, BATCH["W2"]), generator=rng).to(device)
    expected = plain_gradient_sum(model, layers, pool, rows)[0]
    found = weighted_round(model, layers, pool, rows).sums["layer0"].a[0]
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-5)
    works = {
        "plain loop": lambda: plain_gradient_sum(model, layers, pool, rows),
        "weighted sum and moments": lambda: weighted_round(model, layers, pool, rows),
    }
    return seconds(works, device, repeats), rows.numel() * small_device_flops(model, layers)


def encoder_gradients(device, num_devices, texts, repeats=REPEATS):
    """Seconds of a round of W3 in both types of the base, of its plain loop, and operations."""
    network = encoder().to(device)
    heads = random_heads([CLASSES], WIDTH, STREAMS).to(device)
    models = {
        name: adapt(copy.deepcopy(network), "query|value", heads, TOKENS, dtype).for_task(0)
        for name, dtype in (("batched", None), ("batched, bfloat16 base", torch.bfloat16))
    }
    model = models["batched"]
    factors = initial_adapters(model.layer_shapes, 1, AdapterRanks(RANK, 0), 1.0, STREAMS).to(device).shared
    x = torch.randint(WORDS, (num_devices, texts, TOKENS)).to(device)
    y = torch.randint(CLASSES, (num_devices, texts)).to(device)
    batch = PaddedBatch(x, y, torch.full(y.shape, 1 / texts, device=device))
    works = {"plain loop": plain_loop(network, factors, model.objective, batch)}
    for name, own in models.items():
        works[name] = lambda own=own: own.device_gradients(factors, 1.0, batch)
    return seconds(works, device, repeats), y.numel() * model.flops_per_sample(RANK)


def test_ten_thousand_small_devices_on_a_gpu():
    device = torch.device("cuda")
    print(f"\n{torch.cuda.get_device_name(device)}, float32")
    spent, flops = many_small_devices(device, 10_000)
    report("W2 K=10,000", spent, flops, matrix_rate(device))


def test_a_hundred_devices_with_an_encoder_on_a_gpu():
    device = torch.device("cuda")
    rates = {dtype: matrix_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(
        f"\n{torch.cuda.get_device_name(device)}", *(f"{d}: {r / 1e12:.1f} TFLOP/s" for d, r in rates.items())
    )
    spent, flops = encoder_gradients(device, 100, 32)
    report("W3 K=100, batch 32, of the float32 rate", spent, flops, rates[torch.float32])
    report("W3 K=100, batch 32, of the bfloat16 rate", spent, flops, rates[torch.bfloat16])
