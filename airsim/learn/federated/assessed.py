"""The models of methods that average what devices have trained, ready to be tested."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch

from airsim.learn.assessment import AbstractModels
from airsim.learn.evaluation import (
    CrossEvaluation,
    DeviceEvaluation,
    Evaluation,
    HeadPolicy,
    accuracy_of_classes,
    in_proportion,
)
from airsim.learn.federated.base import AbstractLearner
from airsim.learn.models.heads import SampleScores


@final
@dataclass(frozen=True)
class FederatedModels(AbstractModels):
    """A learner's models in one state; a task's model is the mean over the models of its devices."""

    learner: AbstractLearner[Any]
    state: Any

    def on_own_tasks(self) -> Evaluation:
        return self.learner.evaluate(self.state)

    def global_model(self) -> Evaluation:
        return self.learner.evaluate_global(self.state)

    def on_all_tasks(self, head_policy: HeadPolicy) -> CrossEvaluation:
        """Mean accuracy of the devices of a task (row) on each task (column)."""
        data = self.learner.data
        accuracy = np.zeros((len(data.tests), len(data.tests)))
        for own, tested in np.ndindex(accuracy.shape):
            head = tested if head_policy is HeadPolicy.TESTED_TASK else own
            twins = [k for k, task in zip(self._twins, data.task_of_device, strict=True) if task == own]
            right = [self._scores(k, tested, head).right.double().mean().item() for k in twins]
            accuracy[own, tested] = np.mean(right)
        return CrossEvaluation(accuracy, head_policy)

    def of_devices(self) -> DeviceEvaluation:
        data = self.learner.data
        accuracy = np.empty(len(data.devices))
        for device, (twin, task) in enumerate(zip(self._twins, data.task_of_device, strict=True)):
            tested = data.tests[task]
            by_class = accuracy_of_classes(self._scores(twin, task, task), tested, data.num_classes)
            accuracy[device] = in_proportion(by_class, data, device)
        return DeviceEvaluation(accuracy)

    @cached_property
    def _twins(self) -> list[int]:
        return self.learner.twins(self.state)

    @cached_property
    def _known(self) -> dict[tuple[int, int, int], SampleScores]:
        return {}

    def _scores(self, device: int, task: int, head: int) -> SampleScores:
        """Scores of one of equal models with the head of a task, computed once."""
        key = device, task, head
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = self.learner.scores(self.state, device, task, head)
        return self._known[key]
