"""The learning engine against plain PyTorch on the work W1 and W2, in one process and in turns.

Ratios of CPU seconds say what a core does; with two threads, wall seconds are compared with the plain loop on
one.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from learning_work import (
    adapters,
    base_model,
    image_pool,
    interleaved,
    plain_epoch,
    plain_gradient_sum,
    plain_logits,
    vmapped_gradients,
)

from airsim.learn.batches import gather
from airsim.learn.data.tasks import Split
from airsim.learn.local_data import LocalData
from airsim.learn.moments import StreamLayout
from airsim.learn.optimisers import SGD
from airsim.learn.schedules import LocalSchedule
from airsim.learn.streaming import stream_weighted
from airsim.learn.training import LocalTraining
from airsim.learn.weighted import WeightedPass
from airsim.randomness import RandomStreams

pytestmark = pytest.mark.benchmark

RANKS = {"W1": (160, 100, 10), "W2": (16, 10, 1)}
BATCH = {"W1": 64, "W2": 32}
# The 60,000 images of MNIST shared out among a thousand devices.
OWN_SAMPLES = 60


def report(title, spent):
    plain_cpu_s, plain_wall_s = spent["plain loop"]
    for name, (cpu_s, wall_s) in spent.items():
        ratios = f"{plain_cpu_s / cpu_s:.2f} CPU, {plain_wall_s / wall_s:.2f} wall"
        print(f"{title}: {name}: {cpu_s * 1e3:.0f} ms CPU, {wall_s * 1e3:.0f} wall; plain / this = {ratios}")


def weighted_round(model, layers, pool, rows, threads=1):
    """One round with weights given: sums over all devices, and everybody's mean and second moment."""
    layout = StreamLayout({name: (factors.rank,) for name, factors in layers.items()})
    one_pass = WeightedPass(model, model.merged_linears(layers, 1.0), layout)
    weights = torch.full((1, len(rows), 1), 1 / len(rows), device=rows.device)
    _, product = PRODUCTS[id(pool)]

    def draw(devices):
        return gather(pool, rows[devices.start : devices.stop], product)

    return stream_weighted(one_pass, draw, weights, rows.shape[1], threads)


def own_rows(num_devices):
    """A batch of every device, drawn without replacement from samples that no other device has."""
    rng = torch.Generator().manual_seed(3)
    orders = [torch.randperm(OWN_SAMPLES, generator=rng)[: BATCH["W2"]] for _ in range(num_devices)]
    return torch.stack(orders) + OWN_SAMPLES * torch.arange(num_devices).unsqueeze(-1)


# Products of the first frozen layer, once per data set.
PRODUCTS = {}


@pytest.mark.parametrize(("num_devices", "repeats"), [(100, 15), (1000, 7)])
def test_gradients_of_many_small_devices(num_devices, repeats):
    model, pool = base_model(), image_pool(OWN_SAMPLES * num_devices)
    layers = adapters(model, RANKS["W2"])
    PRODUCTS[id(pool)] = model.below(pool.x, set(layers))
    rows = own_rows(num_devices)
    expected = plain_gradient_sum(model, layers, pool, rows)
    found = weighted_round(model, layers, pool, rows).sums
    for name, (a, b) in zip(layers, zip(expected[::2], expected[1::2], strict=True), strict=True):
        torch.testing.assert_close(found[name].a[0], a, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found[name].b[0], b, rtol=1e-3, atol=1e-6)

    def two_passes():
        weighted_round(model, layers, pool, rows)
        weighted_round(model, layers, pool, rows)

    works = {
        "plain loop": lambda: plain_gradient_sum(model, layers, pool, rows),
        "torch.func": lambda: vmapped_gradients(model, layers, pool, rows),
        "weighted sum and moments": lambda: weighted_round(model, layers, pool, rows),
        "two passes, as per-device normalisation takes": two_passes,
        "weighted sum and moments, two threads": lambda: weighted_round(model, layers, pool, rows, threads=2),
    }
    report(f"W2 K={num_devices}", interleaved(works, repeats))


def test_one_epoch_of_ten_large_clients():
    model, pool = base_model(), image_pool(60_000)
    layers, schedule = adapters(model, RANKS["W1"]), LocalSchedule(BATCH["W1"], epochs=1)
    by_class = [torch.nonzero(pool.y == label).squeeze(1)[:6000] for label in range(10)]
    splits = [Split(pool.x[rows], pool.y[rows]) for rows in by_class]
    products = [model.below(split.x, set(layers))[1] for split in splits]
    data = LocalData(range(10), splits, products)
    test = Split(pool.x[:10_000], pool.y[:10_000])

    def plain():
        plain_epoch(model, layers, splits, BATCH["W1"], 0.05)
        with torch.no_grad():
            plain_logits(model, layers, test.x)

    def engine(threads):
        task = LocalTraining(model, 1.0, schedule, SGD(0.05))
        trained = task.run(layers, data, (RandomStreams(0), 0), threads=threads)
        mean = {name: type(f)(f.a.mean(dim=0), f.b.mean(dim=0)) for name, f in trained.layers.items()}
        model.logits(test.x, model.absorbed_linears(mean, 1.0))

    works = {"plain loop": plain, "engine": lambda: engine(1), "engine, two threads": lambda: engine(2)}
    report("W1", interleaved(works, repeats=5))


STREAMED = """
import resource, sys
sys.path.insert(0, {folder!r})
import torch
torch.set_num_threads(2)
from learning_work import adapters, base_model, image_pool
from test_learning_speed import PRODUCTS, RANKS, weighted_round
model, pool = base_model(), image_pool(20_000)
layers = adapters(model, RANKS["W2"])
PRODUCTS[id(pool)] = model.below(pool.x, set(layers))
rows = torch.randint(20_000, (100_000, 32), generator=torch.Generator().manual_seed(3))
result = weighted_round(model, layers, pool, rows, threads=2)
assert result.moments.squares.shape == (100_000, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_hundred_thousand_devices_stream_through_little_memory():
    code = STREAMED.format(folder=str(Path(__file__).parent))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0, run.stderr
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_gib = int(run.stdout) / 2**20
    print(f"W2 K=100,000 streamed: {peak_gib:.2f} GiB (goal: below 1.5), {spent_s:.0f} s of CPU in all")


def test_per_device_gradients_kept_for_the_air():
    model, pool = base_model(), image_pool(20_000)
    layers = adapters(model, RANKS["W2"])
    _, product = model.below(pool.x, set(layers))
    rows = torch.randint(20_000, (64, 32), generator=torch.Generator().manual_seed(3))
    works = {
        "plain loop": lambda: plain_gradient_sum(model, layers, pool, rows),
        "every device's gradient": lambda: model.device_gradients(layers, 1.0, gather(pool, rows, product)),
    }
    report("W2 K=64, gradients kept", interleaved(works, repeats=15))
