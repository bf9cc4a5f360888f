"""What can be asked of the models that a federation has learned, whatever the method."""

import abc
from dataclasses import dataclass
from typing import final

from airsim.learn.adapters import DualAdapters
from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import (
    CrossEvaluation,
    DeviceEvaluation,
    Evaluation,
    HeadPolicy,
    evaluate,
    evaluate_across,
    evaluate_devices,
    evaluate_global,
)
from airsim.learn.models.base import AbstractModel


class AbstractModels(abc.ABC):
    """The models at the end of a round, ready to be tested."""

    @abc.abstractmethod
    def on_own_tasks(self) -> Evaluation:
        """Every task's model on that task's test set.

        Raises:
            DivergenceError: a loss is not finite.
        """

    @abc.abstractmethod
    def global_model(self) -> Evaluation:
        """What all have in common, on every task's test set.

        Raises:
            DivergenceError: a loss is not finite.
        """

    @abc.abstractmethod
    def on_all_tasks(self, head_policy: HeadPolicy) -> CrossEvaluation:
        """Every task's model on every task's test set."""

    @abc.abstractmethod
    def of_devices(self) -> DeviceEvaluation:
        """Every device's model in the class proportions of the device."""


@final
@dataclass(frozen=True)
class DualModels(AbstractModels):
    """One shared adapter, and one personal adapter per task."""

    model: AbstractModel
    adapters: DualAdapters
    scale: float
    data: FederatedData

    def on_own_tasks(self) -> Evaluation:
        return evaluate(self.model, self.adapters, self.scale, self.data.tests)

    def global_model(self) -> Evaluation:
        return evaluate_global(self.model, self.adapters, self.scale, self.data.tests)

    def on_all_tasks(self, head_policy: HeadPolicy) -> CrossEvaluation:
        return evaluate_across(self.model, self.adapters, self.scale, self.data.tests, head_policy)

    def of_devices(self) -> DeviceEvaluation:
        return evaluate_devices(self.model, self.adapters, self.scale, self.data)
