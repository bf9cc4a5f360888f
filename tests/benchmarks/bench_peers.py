"""The engine against Flower on the same work, rounds in turns on both cores; run by `make bench-peers`."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from learning_work import adapters, base_model, image_pool
from test_learning_speed import BATCH, PRODUCTS, RANKS, weighted_round

from airsim.learn.data.tasks import Split
from airsim.learn.local_data import LocalData
from airsim.learn.optimisers import SGD
from airsim.learn.prefix import with_products
from airsim.learn.schedules import LocalSchedule
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams

HERE = Path(__file__).parent
THREADS = 2
# Work, clients, and rounds of Flower after its first, which only starts it up.
CASES = (("W2", 100, 7), ("W2", 1000, 3), ("W1", 10, 5))


class Flower:
    """A simulation in an environment of its own that runs a round whenever it is asked to."""

    def __init__(self, python, work, clients, rounds):
        command = [python, str(HERE / "flower_rounds.py"), work, str(clients), str(rounds)]
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)

    def round(self):
        """Wall and CPU seconds of one round, the latter of all its processes."""
        before = tree_cpu_s(self.process.pid)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("round "):
                return float(line.split()[1]), tree_cpu_s(self.process.pid) - before
        raise RuntimeError(f"Flower ended with exit code {self.process.wait()} before its round did")


def tree_cpu_s(root):
    """CPU seconds so far of a process and all that live below it."""
    parents, spent = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended in between
        parents[int(folder.name)] = int(fields[1])
        spent[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(spent.get(pid, 0.0) for pid in below)


def engine_round(work, clients):
    """A callable that does one round of this work."""
    model = base_model()
    layers = adapters(model, RANKS[work])
    if work == "W2":
        pool = image_pool(32 * clients)
        PRODUCTS[id(pool)] = model.below(pool.x, set(layers))
        rows = torch.arange(32 * clients).view(clients, 32)
        return lambda: weighted_round(model, layers, pool, rows, THREADS)
    pool = image_pool(60_000)
    splits = [Split(x, y) for x, y in zip(pool.x.split(6000), pool.y.split(6000), strict=True)]
    data = with_products(model, LocalData(range(10), splits), set(layers))
    task = LocalTraining(model, 1.0, LocalSchedule(BATCH[work], epochs=1), SGD(0.05))

    def train():
        trained = task.run(layers, data, (RandomStreams(0), 0), threads=THREADS).layers
        return [(factors.a.mean(dim=0), factors.b.mean(dim=0)) for factors in trained.values()]

    return train


def compare(python, work, clients, rounds):
    ours, flower = engine_round(work, clients), Flower(python, work, clients, rounds + 1)
    ours()
    flower.round()
    spent = {"engine": [], "Flower": []}
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        ours()
        spent["engine"].append((time.perf_counter() - wall, time.process_time() - cpu))
        spent["Flower"].append(flower.round())
    flower.process.wait()
    (our_wall, our_cpu), (wall, cpu) = (
        [statistics.median(column) for column in zip(*pairs, strict=True)] for pairs in spent.values()
    )
    print(
        f"{work}, {clients} clients: Flower {wall:.3f} s wall, {cpu:.3f} s CPU; engine {our_wall:.4f} s wall,"
        f" {our_cpu:.4f} s CPU; Flower / engine = {wall / our_wall:.1f} wall, {cpu / our_cpu:.1f} CPU",
        flush=True,
    )


if __name__ == "__main__":
    for case in CASES:
        compare(sys.argv[1], *case)
