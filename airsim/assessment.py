"""What a run measures of its models, under the names of its metrics."""

from dataclasses import dataclass
from typing import Literal

from airsim.learn.assessment import AbstractModels
from airsim.learn.evaluation import Evaluation, HeadPolicy

Metrics = dict[str, float | int | str | list[float] | list[int]]
Subject = Literal["global", "cross-task", "devices"]


@dataclass(frozen=True)
class Assessment:
    """What is evaluated beside every model on its own task, and with which head other tasks are answered."""

    also: tuple[Subject, ...] = ()
    head_policy: HeadPolicy = HeadPolicy.TESTED_TASK

    def metrics(self, models: AbstractModels) -> Metrics:
        """Accuracies of these models."""
        found = _own_tasks(models.on_own_tasks())
        if "global" in self.also:
            found |= _global_model(models.global_model())
        if "cross-task" in self.also:
            across = models.on_all_tasks(self.head_policy)
            found["accuracy_cross_task"] = float(across.all_tasks.mean())
            found["accuracy_cross_task_per_model"] = across.all_tasks.tolist()
        if "devices" in self.also:
            devices = models.of_devices()
            found["accuracy_devices"] = devices.mean
            found["accuracy_worst_decile"] = devices.worst_decile
        return found


def _own_tasks(evaluation: Evaluation) -> Metrics:
    return {
        "accuracy": evaluation.accuracy,
        "accuracy_worst_task": evaluation.accuracy_worst_task,
        "accuracy_per_task": list(evaluation.accuracy_per_task),
        "test_loss": evaluation.loss,
    }


def _global_model(evaluation: Evaluation) -> Metrics:
    return {
        "accuracy_global": evaluation.accuracy,
        "accuracy_global_worst_task": evaluation.accuracy_worst_task,
        "accuracy_global_per_task": list(evaluation.accuracy_per_task),
        "test_loss_global": evaluation.loss,
    }
