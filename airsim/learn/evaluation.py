"""Accuracy and loss on the held-out test set of every task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from airsim.errors import DivergenceError
from airsim.learn.adapters import DualAdapters
from airsim.learn.data.tasks import Split
from airsim.learn.models.base import AbstractBaseModel


@dataclass(frozen=True)
class Evaluation:
    """Share of right answers and mean cross-entropy, task by task."""

    accuracy_per_task: tuple[float, ...]
    loss_per_task: tuple[float, ...]

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


def evaluate(
    model: AbstractBaseModel, adapters: DualAdapters, scale: float, tests: Sequence[Split]
) -> Evaluation:
    """Accuracy and loss of every task with its own personal adapter.

    Raises:
        DivergenceError: a loss is not finite; the class of largest "logit" would still look like an accuracy.
    """
    results = [
        score(model.forward(split.x, adapters.for_task(task), scale), split, task)
        for task, split in enumerate(tests)
    ]
    accuracies, losses = zip(*results, strict=True)
    return Evaluation(accuracies, losses)


def score(logits: Tensor, split: Split, task: int) -> tuple[float, float]:
    """Share of right answers and mean cross-entropy on one test set.

    Raises:
        DivergenceError: the loss is not finite.
    """
    loss = torch.nn.functional.cross_entropy(logits, split.y).item()
    if not math.isfinite(loss):
        raise DivergenceError(
            f"test loss of task {task} is {loss}: training has diverged and there is no accuracy to report; "
            "lower learning.learning_rate or learning.adapters.scale"
        )
    return (logits.argmax(dim=-1) == split.y).double().mean().item(), loss
