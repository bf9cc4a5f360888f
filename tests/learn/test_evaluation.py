import numpy as np
import pytest
import torch
from federation_builders import SCALE, random_adapters, random_federation, random_model

from airsim.errors import DivergenceError
from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.evaluation import (
    DeviceEvaluation,
    Evaluation,
    HeadPolicy,
    Subject,
    evaluate,
    evaluate_across,
    evaluate_devices,
    evaluate_global,
)
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


def test_the_global_model_is_the_shared_adapter_alone():
    model, data = random_model(), random_federation()
    adapters = random_adapters(model)
    result = evaluate_global(model, adapters, SCALE, data.tests)
    assert result.subject is Subject.GLOBAL
    for task, split in enumerate(data.tests):
        logits = model.forward(split.x, adapters.shared, SCALE)
        loss = torch.nn.functional.cross_entropy(logits, split.y).item()
        assert result.loss_per_task[task] == pytest.approx(loss)


def test_personal_models_meet_every_task_and_their_own_on_the_diagonal():
    model, data = random_model(), random_federation()
    adapters = random_adapters(model)
    result = evaluate_across(model, adapters, SCALE, data.tests, HeadPolicy.TESTED_TASK)
    assert result.own == pytest.approx(evaluate(model, adapters, SCALE, data.tests).accuracy_per_task)
    logits = model.forward(data.tests[2].x, adapters.for_task(1), SCALE)
    right = (logits.argmax(dim=1) == data.tests[2].y).double().mean().item()
    assert result.accuracy[1, 2] == pytest.approx(right)
    assert result.all_tasks[1] == pytest.approx(result.accuracy[1].mean())


def test_a_device_is_judged_in_the_proportions_of_its_own_classes():
    identity = FrozenMLP((torch.eye(3),), (torch.zeros(3),))
    adapters = initial_adapters(identity.layer_shapes, 1, AdapterRanks(1, 1), 1.0, RandomStreams(0))
    # The model knows classes 0 and 1; of class 2 it takes one half for class 0.
    test = Split(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 2]))
    own = [torch.tensor([2, 2]), torch.tensor([0, 1]), torch.tensor([0, 2, 2, 2])]
    devices = tuple(Split(torch.zeros(len(y), 3), y) for y in own)
    data = FederatedData(devices[0], devices, (0, 0, 0), (test,), 3, "checksum")
    result = evaluate_devices(identity, adapters, 1.0, data)
    assert result.accuracy_per_device == pytest.approx([0.5, 1.0, 0.625])
    assert (result.mean, result.worst_decile) == pytest.approx((2.125 / 3, 0.5))


def test_the_worst_decile_is_the_mean_of_the_worst_tenth():
    assert DeviceEvaluation(np.linspace(0.0, 1.9, 20)).worst_decile == pytest.approx(0.05)
    assert DeviceEvaluation(np.linspace(0.0, 2.0, 21)).worst_decile == pytest.approx(0.1)


def test_a_device_without_any_tested_class_is_refused():
    identity = FrozenMLP((torch.eye(3),), (torch.zeros(3),))
    adapters = initial_adapters(identity.layer_shapes, 1, AdapterRanks(1, 1), 1.0, RandomStreams(0))
    split = Split(torch.eye(3)[:1], torch.tensor([0]))
    data = FederatedData(split, (Split(split.x, torch.tensor([1])),), (0,), (split,), 3, "checksum")
    with pytest.raises(ValueError, match="device 0 has only classes without test samples"):
        evaluate_devices(identity, adapters, 1.0, data)
