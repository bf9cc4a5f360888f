"""Methods on full parameters: every device trains a whole model between two uploads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import Evaluation, Subject, means
from airsim.learn.federated.base import AbstractLearner, LocalRound, require_finite, weighted_view
from airsim.learn.federated.full_training import FullTraining
from airsim.learn.federated.local_terms import ControlTerm
from airsim.learn.federated.model_memory import ModelMemory, fresh_memory
from airsim.learn.local_data import LocalData
from airsim.learn.models.heads import SampleScores, classification_scores
from airsim.learn.models.trainable import AbstractTrainable
from airsim.learn.operators.base import AbstractAggregationOperator, RoundView, participants_of
from airsim.learn.operators.full_model import ModelStack, ModelState, Scaffold
from airsim.learn.operators.model_payload import expand
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class ModelFederation:
    """The server's model, what each device holds and, if asked, what its optimiser remembers.

    `broadcast_entries` are the real numbers that were broadcast to get here.
    """

    server: ModelState
    held: ModelStack
    broadcast_entries: int = 0
    memory: ModelMemory | None = None


@final
@dataclass(frozen=True)
class ModelLearner(AbstractLearner[ModelFederation]):
    """Rounds of all devices or of some; the base model is where training starts.

    A device that sits out keeps what is its own: its control variate, or its model of its last participation,
    and with `keep_memory`, under which momenta live from round to round, these as well.
    """

    operator: AbstractAggregationOperator[ModelStack, ModelState]
    training: FullTraining
    data: FederatedData
    streams: RandomStreams
    base: AbstractTrainable
    learning_rate: float
    keep_memory: bool = False

    @property
    def devices(self) -> range:
        """Numbers of the devices."""
        return range(len(self.data.devices))

    def start(self) -> ModelFederation:
        server = self.operator.start(ModelState(self.base.parameters, {}))
        everywhere = expand(server.parameters, len(self.devices))
        private = expand(server.control, len(self.devices)) if server.control else everywhere
        kept = ModelStack(everywhere, private)
        held = self.operator.broadcast(server, kept, self.devices)
        begun = (*server.parameters.values(), *server.control.values())
        return ModelFederation(server, held, sum(tensor.numel() for tensor in begun))

    def train(
        self, state: ModelFederation, round_index: int, participants: Sequence[int] | None = None
    ) -> LocalRound[ModelFederation]:
        devices = list(self.devices if participants is None else participants)
        before = state.held if len(devices) == len(self.devices) else state.held.take(devices)
        training, own = self.training, LocalData(devices, [self.data.devices[device] for device in devices])
        if isinstance(self.operator, Scaffold):
            training = replace(training, term=ControlTerm(state.server.control))
        tasks = [self.data.task_of_device[device] for device in devices]
        known = self._memory(state).take(devices) if self.keep_memory else None
        trained = training.run(before, own, tasks, (self.streams, round_index), known)
        require_finite(trained.losses, round_index, self.learning_rate, devices)
        steps = torch.tensor([float(training.schedule.steps_of(split.size)) for split in own.splits])
        private = training.term.private(before, trained.parameters, steps * self.learning_rate)
        after = ModelStack(trained.parameters, private)
        sizes = [float(split.size) for split in self.data.devices]
        view = RoundView(round_index, state.server, participants_of(sizes, [1] * len(sizes), devices))
        sent = self.operator.encode(before, after, view)
        memory = None if trained.memory is None else self._memory(state).put(devices, trained.memory)
        return LocalRound(weighted_view(self.operator, sent, view), after, trained.losses, sent, memory)

    def _memory(self, state: ModelFederation) -> ModelMemory:
        """What all devices' optimisers remember; nothing yet before the first round."""
        return state.memory or fresh_memory(self.training.optimiser, state.held.parameters)

    def merge(
        self, state: ModelFederation, local: LocalRound[ModelFederation], received: Float[Tensor, "*rows D"]
    ) -> ModelFederation:
        update = self.operator.decode(received, local.view)
        server, entries = update.state, self.operator.broadcast_entries(update, local.view, 1)
        devices = local.view.participants.devices
        held = self.operator.broadcast(server, local.after, devices)
        if len(devices) < len(self.devices):
            private = state.held.put(devices, held).private
            held = ModelStack(expand(server.parameters, len(self.devices)), private)
        return ModelFederation(server, held, entries, local.memory)

    def broadcast_entries(self, state: ModelFederation) -> int:
        return state.broadcast_entries

    def rank(self, state: ModelFederation, device: int) -> int:
        return 0

    def evaluate(self, state: ModelFederation) -> Evaluation:
        results = [means(self.scores(state, 0, task), task) for task in range(len(self.data.tests))]
        accuracies, losses = zip(*results, strict=True)
        return Evaluation(accuracies, losses)

    def evaluate_global(self, state: ModelFederation) -> Evaluation:
        return replace(self.evaluate(state), subject=Subject.GLOBAL)

    def scores(self, state: ModelFederation, device: int, task: int, head: int | None = None) -> SampleScores:
        split = self.data.tests[task]
        model = self.base.for_task(task if head is None else head)
        _, logits = model.forward_with(state.server.parameters, split.x)
        return classification_scores(logits, split.y)

    def twins(self, state: ModelFederation) -> list[int]:
        return [0] * len(self.devices)

    def named_tensors(self, state: ModelFederation) -> dict[str, Tensor]:
        """The server's model."""
        return {name: x.contiguous() for name, x in state.server.parameters.items()}
