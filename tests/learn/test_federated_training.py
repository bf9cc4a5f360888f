"""Whole training runs without the air: what the aggregated gradients of all parts together learn."""

import pytest
import torch
from unchecked import unchecked

from airsim.errors import DivergenceError
from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.cohort import Cohort
from airsim.learn.data.partition import DirichletPartition
from airsim.learn.data.sources import load_digits
from airsim.learn.data.tasks import FederationPlan, SplitSizes, TaskSpec, build_federated_data
from airsim.learn.evaluation import evaluate
from airsim.learn.models.plans import MlpPlan
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.pretraining import PretrainingSpec, pretrain_base
from airsim.randomness import RandomStreams

TASKS = tuple(TaskSpec(*task) for task in (((1, 7), 8.0), ((3, 8), 4.0), ((4, 9), 2.0), ((5, 6), 1.0)))
PLAN = FederationPlan(TASKS, 5, SplitSizes(300, 400, 700), "quarter-turn", DirichletPartition(0.5, 2))


def accuracy_without_air(cache_dir, ranks, learning_rate=0.15, num_rounds=300):
    streams = RandomStreams(0)
    data = build_federated_data(load_digits(), PLAN, streams)
    base = pretrain_base(data.public, MlpPlan((64, 64, 64, 10)), PretrainingSpec(), streams, cache_dir)
    adapters = initial_adapters(base.layer_shapes, len(TASKS), ranks, 1.0, streams)
    cohort, operator = Cohort(data, "full", streams, learning_rate), AirPFedLoRA(learning_rate)
    sizes = torch.tensor(cohort.data_sizes, dtype=torch.float32)
    of_task = torch.nn.functional.one_hot(torch.tensor(data.task_of_device)).T * sizes
    for round_index in range(num_rounds):
        (chunk,) = cohort.gradient_chunks(base, adapters, 1.0, round_index, range(cohort.num_devices))
        shared = (sizes / sizes.sum()) @ chunk.shared
        personal = of_task / of_task.sum(dim=1, keepdim=True) @ chunk.personal
        adapters = operator.apply(adapters, shared, personal)
    return evaluate(base, adapters, 1.0, data.tests).accuracy


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


def test_the_base_alone_fails_and_the_dual_adapter_beats_both_single_ones(cache_dir):
    base = accuracy_without_air(cache_dir, AdapterRanks(6, 2), num_rounds=0)
    ranks = AdapterRanks(6, 2), AdapterRanks(8, 0), AdapterRanks(0, 8)
    dual, shared, personal = (unchecked(accuracy_without_air, cache_dir, rank) for rank in ranks)
    assert base < 0.2
    assert dual == pytest.approx(0.81, abs=0.03)
    assert dual > shared + 0.08
    assert dual > personal


def test_a_step_that_is_too_long_stops_the_run(cache_dir):
    with pytest.raises(DivergenceError, match=r"the loss of device \d+ is nan.*now 50"):
        accuracy_without_air(cache_dir, AdapterRanks(6, 2), learning_rate=50.0)
