"""Rounds of Flower on the work W1 or W2, one for every line on standard input; run by `bench_peers.py`.

Needs `flwr[simulation]` and torch alone; data, base and adapters are drawn here, of the same sizes as in
`learning_work.py`.
"""

import itertools
import sys
import time

import numpy as np
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn.functional import cross_entropy, linear

WORK, NUM_CLIENTS, NUM_ROUNDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SIZES = (784, 200, 200, 10)
RANKS = {"W1": (160, 100, 10), "W2": (16, 10, 1)}[WORK]
SAMPLES, BATCH = {"W1": (6000, 64), "W2": (32, 32)}[WORK]
PAIRS = list(itertools.pairwise(SIZES))


def frozen_base():
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(o, i, generator=rng) * (2 / i) ** 0.5 for i, o in PAIRS]


def initial_adapters():
    rng = np.random.default_rng(2)
    parts = []
    for rank, (inputs, outputs) in zip(RANKS, PAIRS, strict=True):
        parts += [
            rng.standard_normal((rank, inputs)) / inputs**0.5,
            0.01 * rng.standard_normal((outputs, rank)),
        ]
    return [part.astype(np.float32) for part in parts]


def loss_of(base, factors, x, y):
    for index, weight in enumerate(base):
        x = torch.relu(x) if index else x
        x = linear(x, weight) + linear(linear(x, factors[2 * index]), factors[2 * index + 1])
    return cross_entropy(x, y)


class Client(NumPyClient):
    """One device: its share of the work on data of its own, which stay in the actor between rounds."""

    stored: dict = {}  # noqa: RUF012

    def __init__(self, partition):
        torch.set_num_threads(1)
        if partition not in self.stored:
            rng = torch.Generator().manual_seed(partition)
            x = torch.rand(SAMPLES, SIZES[0], generator=rng)
            self.stored[partition] = (x, torch.randint(10, (SAMPLES,), generator=rng))
        if "base" not in self.stored:
            self.stored["base"] = frozen_base()
        self.x, self.y = self.stored[partition]

    def fit(self, parameters, config):
        base = self.stored["base"]
        factors = [torch.from_numpy(part.copy()).requires_grad_() for part in parameters]
        if WORK == "W2":
            gradients = torch.autograd.grad(loss_of(base, factors, self.x, self.y), factors)
            return [gradient.numpy() for gradient in gradients], SAMPLES, {}
        optimiser = torch.optim.SGD(factors, lr=0.05)
        for chosen in torch.randperm(SAMPLES).split(BATCH):
            optimiser.zero_grad()
            loss_of(base, factors, self.x[chosen], self.y[chosen]).backward()
            optimiser.step()
        return [factor.detach().numpy() for factor in factors], SAMPLES, {}


class OnDemand(FedAvg):
    """Averages as Flower does; a round begins with a line from outside and ends with its seconds."""

    def configure_fit(self, server_round, parameters, client_manager):
        sys.stdin.readline()
        self.began = time.perf_counter()
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        aggregated = super().aggregate_fit(server_round, results, failures)
        if failures:
            raise RuntimeError(f"{len(failures)} clients failed: {failures[0]}")
        print(f"round {time.perf_counter() - self.began:.6f}", flush=True)
        return (self.initial, {}) if WORK == "W2" else aggregated


def client_fn(context: Context):
    return Client(int(context.node_config["partition-id"])).to_client()


def server_fn(context: Context):
    strategy = OnDemand(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=NUM_CLIENTS,
        min_available_clients=NUM_CLIENTS,
        initial_parameters=ndarrays_to_parameters(initial_adapters()),
    )
    strategy.initial = ndarrays_to_parameters(initial_adapters())
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=NUM_ROUNDS))


if __name__ == "__main__":
    run_simulation(
        ServerApp(server_fn=server_fn),
        ClientApp(client_fn=client_fn),
        num_supernodes=NUM_CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}},
    )
