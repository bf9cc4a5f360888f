"""One round of learning, cut where the air is: what devices would send, and what the server makes of it."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.errors import DivergenceError
from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import Evaluation
from airsim.learn.models.heads import SampleScores
from airsim.learn.operators.base import AbstractAggregationOperator, RoundView, Transmission, with_weights

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class LocalRound(Generic[StateT]):
    """Where the participants have arrived, what they would send, and the weights to superpose it with.

    `after` is what they hold now; `memory` is what all devices' optimisers remember.
    """

    view: RoundView[Any]
    after: Any
    losses: Float[Tensor, "K"]
    sent: Transmission
    memory: Any = None

    @property
    def weights(self) -> Float[Tensor, "K"]:
        """What the payloads are superposed with."""
        return self.view.participants.weights


class AbstractLearner(abc.ABC, Generic[StateT]):
    """A method with its model, its data and its way to train; states are never changed in place."""

    operator: AbstractAggregationOperator[Any, Any]
    data: FederatedData

    @abc.abstractmethod
    def start(self) -> StateT:
        """The state before the first round."""

    @abc.abstractmethod
    def train(
        self, state: StateT, round_index: int, participants: Sequence[int] | None = None
    ) -> LocalRound[StateT]:
        """What these devices (all, unless named) make of the last broadcast.

        Raises:
            DivergenceError: the loss of a device is not finite.
        """

    @abc.abstractmethod
    def merge(self, state: StateT, local: LocalRound[StateT], received: Float[Tensor, "*rows D"]) -> StateT:
        """The state of the next round, from what arrived."""

    @abc.abstractmethod
    def broadcast_entries(self, state: StateT) -> int:
        """Real numbers that brought this state to the devices; at the start, all that they begin with."""

    @abc.abstractmethod
    def rank(self, state: StateT, device: int) -> int:
        """Of the adapter that this device trains next; 0 where whole models are trained."""

    @abc.abstractmethod
    def evaluate(self, state: StateT) -> Evaluation:
        """Accuracy and loss of the devices' models on the test sets of their own tasks."""

    @abc.abstractmethod
    def evaluate_global(self, state: StateT) -> Evaluation:
        """Accuracy and loss of what the server holds in common for all, on every task's test set."""

    @abc.abstractmethod
    def scores(self, state: StateT, device: int, task: int, head: int | None = None) -> SampleScores:
        """A device's model on the test set of a task, with the head of this or of another task.

        A model with one head for all tasks leaves `head` alone.
        """

    @abc.abstractmethod
    def twins(self, state: StateT) -> list[int]:
        """For each device the first one that has the same model."""

    @abc.abstractmethod
    def named_tensors(self, state: StateT) -> dict[str, Tensor]:
        """What was learned, under plain names."""


def weighted_view(
    operator: AbstractAggregationOperator[Any, Any], sent: Transmission, view: RoundView[Any]
) -> RoundView[Any]:
    """The round with the weights that payloads are superposed with, once the control channel was heard."""
    return with_weights(view, operator.air_weights(sent.control, view))


def require_finite(
    losses: Float[Tensor, "K"], round_index: int, learning_rate: float, devices: Sequence[int]
) -> None:
    """Raise `DivergenceError` naming the first device whose loss is not finite."""
    wrong = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if wrong:
        raise DivergenceError(
            f"round {round_index}: the loss of device {devices[wrong[0]]} is {float(losses[wrong[0]])}; "
            f"training has diverged. Lower learning.learning_rate (now {learning_rate:g})"
        )


def mean_over_tasks(
    per_device: Mapping[int, tuple[float, float]], task_of_device: tuple[int, ...]
) -> Evaluation:
    """Accuracy and loss of each task: the mean over its devices."""
    num_tasks = max(task_of_device) + 1
    tasks = [
        [per_device[k] for k, own in enumerate(task_of_device) if own == task] for task in range(num_tasks)
    ]
    accuracies, losses = (
        tuple(sum(pair[part] for pair in own) / len(own) for own in tasks) for part in (0, 1)
    )
    return Evaluation(accuracies, losses)
