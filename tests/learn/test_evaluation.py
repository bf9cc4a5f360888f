import pytest
import torch
from federation_builders import SCALE, random_adapters, random_federation, random_model

from airsim.errors import DivergenceError
from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.data.tasks import Split
from airsim.learn.evaluation import Evaluation, evaluate
from airsim.learn.models.mlp import FrozenMLP
from airsim.randomness import RandomStreams


def test_accuracy_counts_right_answers_task_by_task():
    identity = FrozenMLP((torch.eye(3),), (torch.zeros(3),))
    adapters = initial_adapters(identity.layer_shapes, 2, AdapterRanks(1, 1), 1.0, RandomStreams(0))
    tests = (Split(torch.eye(3), torch.tensor([0, 1, 2])), Split(torch.eye(3), torch.tensor([0, 0, 0])))
    result = evaluate(identity, adapters, 1.0, tests)
    assert result.accuracy_per_task == pytest.approx((1.0, 1 / 3))
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.accuracy_worst_task == pytest.approx(1 / 3)
    # -log softmax of (1, 0, 0) at its first entry.
    assert result.loss_per_task[0] == pytest.approx(torch.log(torch.e + torch.tensor(2.0)).item() - 1)


def test_the_mean_counts_every_task_once():
    assert Evaluation((0.9, 0.5), (1.0, 3.0)).loss == 2.0


def test_a_diverged_model_has_no_accuracy():
    model, data = random_model(), random_federation()
    adapters = random_adapters(model)
    adapters.personal["layer0"].b[1] = torch.nan
    with pytest.raises(DivergenceError, match="task 1 is nan"):
        evaluate(model, adapters, SCALE, data.tests)
