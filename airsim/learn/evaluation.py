"""Accuracy and loss on held-out data: of which model, on whose test set, with which head."""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.errors import DivergenceError
from airsim.learn.adapters import DualAdapters, LoRAFactors
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.models.base import AbstractModel
from airsim.learn.models.heads import HEAD, SampleScores

WORST_SHARE = 0.1


class Subject(enum.Enum):
    """Which model an evaluation is about."""

    PERSONAL = "shared and personal adapter of a task, on that task's test set"
    GLOBAL = "shared adapter alone, on every task's test set, with the head of that task"


class HeadPolicy(enum.Enum):
    """Which head a personal model answers another task with; a model without heads per task ignores it."""

    TESTED_TASK = "the head of the task that is tested"
    OWN_TASK = "the head of the model's own task; classes that it lacks are wrong answers"


@dataclass(frozen=True)
class Evaluation:
    """Share of right answers and mean loss, task by task."""

    accuracy_per_task: tuple[float, ...]
    loss_per_task: tuple[float, ...]
    subject: Subject = Subject.PERSONAL

    @property
    def accuracy(self) -> float:
        """Mean over tasks, each counted once."""
        return sum(self.accuracy_per_task) / len(self.accuracy_per_task)

    @property
    def accuracy_worst_task(self) -> float:
        """The smallest accuracy of a task."""
        return min(self.accuracy_per_task)

    @property
    def loss(self) -> float:
        """Mean over tasks, each counted once."""
        return sum(self.loss_per_task) / len(self.loss_per_task)


@dataclass(frozen=True)
class CrossEvaluation:
    """Accuracy of the personal model of each task (rows) on the test set of each task (columns)."""

    accuracy: Float[np.ndarray, "E E"]
    head_policy: HeadPolicy

    @property
    def own(self) -> Float[np.ndarray, "E"]:
        """Accuracy of each model on its own task."""
        return np.diagonal(self.accuracy)

    @property
    def all_tasks(self) -> Float[np.ndarray, "E"]:
        """Mean accuracy of each model over all tasks, each counted once."""
        return self.accuracy.mean(axis=1)


@dataclass(frozen=True)
class DeviceEvaluation:
    r"""Accuracy of each device's model on test samples in the class proportions of its own data.

    .. math:: a_k = \sum_c \frac{n_{kc}}{n_k}\, a_{e(k),c}

    with the accuracy :math:`a_{e,c}` of the personal model of task e on the test samples of class c.
    """

    accuracy_per_device: Float[np.ndarray, "K"]

    @property
    def mean(self) -> float:
        """Mean over devices, each counted once."""
        return float(self.accuracy_per_device.mean())

    @property
    def worst_decile(self) -> float:
        """Mean over the worst tenth of the devices, at least one."""
        worst = math.ceil(WORST_SHARE * len(self.accuracy_per_device))
        return float(np.sort(self.accuracy_per_device)[:worst].mean())


def evaluate(
    model: AbstractModel, adapters: DualAdapters, scale: float, tests: Sequence[Split]
) -> Evaluation:
    """Accuracy and loss of every task with its own personal adapter and head.

    Raises:
        DivergenceError: a loss is not finite; the class of largest "logit" would still look like an accuracy.
    """
    return _evaluate(model, [adapters.for_task(task) for task in range(len(tests))], scale, tests)


def evaluate_global(
    model: AbstractModel, adapters: DualAdapters, scale: float, tests: Sequence[Split]
) -> Evaluation:
    """Accuracy and loss of every task with the shared adapter alone; heads stay those of the tasks.

    Raises:
        DivergenceError: a loss is not finite.
    """
    layers = [_shared_only(adapters, task) for task in range(len(tests))]
    return _evaluate(model, layers, scale, tests, Subject.GLOBAL)


def evaluate_across(
    model: AbstractModel,
    adapters: DualAdapters,
    scale: float,
    tests: Sequence[Split],
    head_policy: HeadPolicy,
) -> CrossEvaluation:
    """Accuracy of every personal model on every task."""
    accuracy = np.empty((len(tests), len(tests)))
    for own, tested in np.ndindex(accuracy.shape):
        head = tested if head_policy is HeadPolicy.TESTED_TASK else own
        layers = adapters.for_task(own) | _head_of(adapters, head)
        split = tests[tested]
        with torch.no_grad():
            scores = model.for_task(head).scores(split.x, split.y, layers, scale)
        accuracy[own, tested] = scores.right.double().mean().item()
    return CrossEvaluation(accuracy, head_policy)


def evaluate_devices(
    model: AbstractModel, adapters: DualAdapters, scale: float, data: FederatedData
) -> DeviceEvaluation:
    """Accuracy of every device; a class of which there is no test sample is left out of its proportions.

    Raises:
        ValueError: a device has only classes that are not tested.
    """
    accuracy = np.empty(len(data.devices))
    for task, split in enumerate(data.tests):
        with torch.no_grad():
            scores = model.for_task(task).scores(split.x, split.y, adapters.for_task(task), scale)
        by_class = accuracy_of_classes(scores, split, data.num_classes)
        for device in (k for k, own in enumerate(data.task_of_device) if own == task):
            accuracy[device] = in_proportion(by_class, data, device)
    return DeviceEvaluation(accuracy)


def accuracy_of_classes(scores: SampleScores, split: Split, num_classes: int) -> Float[Tensor, "C"]:
    """Share of right answers on the samples of each class; 0 for a class without any."""
    tested = torch.bincount(split.y, minlength=num_classes)
    right = torch.bincount(split.y, scores.right.double(), minlength=num_classes)
    return right / tested.clamp(min=1)


def in_proportion(accuracy: Float[Tensor, "C"], data: FederatedData, device: int) -> float:
    """The mean of the classes' accuracies, weighted by the device's own samples of tested classes.

    Raises:
        ValueError: the device has only classes that are not tested.
    """
    counts = tested_samples(data, device)
    if not counts.any():
        raise ValueError(f"device {device} has only classes without test samples: take more of them")
    return float((counts * accuracy).sum().item() / counts.sum().item())


def tested_samples(data: FederatedData, device: int) -> Int[Tensor, "C"]:
    """How many samples of each class a device has, of those that its task's test set knows."""
    tests = data.tests[data.task_of_device[device]]
    tested = torch.bincount(tests.y, minlength=data.num_classes) > 0
    return torch.bincount(data.devices[device].y, minlength=data.num_classes) * tested


def _head_of(adapters: DualAdapters, task: int) -> dict[str, LoRAFactors]:
    """The trained head of a task, where heads are trained."""
    return {HEAD: adapters.personal[HEAD].take(task)} if HEAD in adapters.personal else {}


def _shared_only(adapters: DualAdapters, task: int) -> dict[str, LoRAFactors]:
    return dict(adapters.shared) | _head_of(adapters, task)


def _evaluate(
    model: AbstractModel,
    layers: Sequence[Mapping[str, LoRAFactors]],
    scale: float,
    tests: Sequence[Split],
    subject: Subject = Subject.PERSONAL,
) -> Evaluation:
    results = []
    for task, split in enumerate(tests):
        with torch.no_grad():
            scores = model.for_task(task).scores(split.x, split.y, layers[task], scale)
        results.append(means(scores, task))
    accuracies, losses = zip(*results, strict=True)
    return Evaluation(accuracies, losses, subject)


def means(scores: SampleScores, task: int) -> tuple[float, float]:
    """Share of right answers and mean loss on one test set.

    Raises:
        DivergenceError: the loss is not finite.
    """
    loss = scores.losses.double().mean().item()
    if not math.isfinite(loss):
        raise DivergenceError(
            f"test loss of task {task} is {loss}: training has diverged and there is no accuracy to report; "
            "lower learning.learning_rate or learning.adapters.scale"
        )
    return scores.right.double().mean().item(), loss
