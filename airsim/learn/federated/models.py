"""Methods on full parameters: every device trains a whole model between two uploads."""

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import Evaluation, means
from airsim.learn.federated.base import AbstractLearner, LocalRound, require_finite, weighted_view
from airsim.learn.federated.full_training import FullTraining
from airsim.learn.federated.local_terms import ControlTerm
from airsim.learn.local_data import LocalData
from airsim.learn.models.heads import classification_scores
from airsim.learn.models.staged import AbstractStagedModel
from airsim.learn.operators.base import AbstractAggregationOperator, RoundView, participants_of
from airsim.learn.operators.full_model import ModelStack, ModelState, Scaffold, expand
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class ModelFederation:
    """The server's model, what each device holds, and the real numbers that were broadcast to get here."""

    server: ModelState
    held: ModelStack
    broadcast_entries: int = 0


@final
@dataclass(frozen=True)
class ModelLearner(AbstractLearner[ModelFederation]):
    """All devices take part in every round; the base model is where training starts."""

    operator: AbstractAggregationOperator[ModelStack, ModelState]
    training: FullTraining
    data: FederatedData
    streams: RandomStreams
    base: AbstractStagedModel
    learning_rate: float

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

    def train(self, state: ModelFederation, round_index: int) -> LocalRound[ModelFederation]:
        training, own = self.training, LocalData(self.devices, self.data.devices)
        if isinstance(self.operator, Scaffold):
            training = replace(training, term=ControlTerm(state.server.control))
        losses, trained = training.run(state.held, own, (self.streams, round_index))
        require_finite(losses, round_index, self.learning_rate)
        sizes = [float(split.size) for split in self.data.devices]
        steps = torch.tensor([float(training.schedule.steps_of(int(size))) for size in sizes])
        private = training.term.private(state.held, trained, steps * self.learning_rate)
        after = ModelStack(trained, private)
        view = RoundView(round_index, state.server, participants_of(sizes, [1] * len(sizes), self.devices))
        sent = self.operator.encode(state.held, after, view)
        return LocalRound(weighted_view(self.operator, sent, view), after, losses, sent)

    def merge(
        self, state: ModelFederation, local: LocalRound[ModelFederation], received: Float[Tensor, "*rows D"]
    ) -> ModelFederation:
        update = self.operator.decode(received, local.view)
        server, entries = update.state, self.operator.broadcast_entries(update, local.view)
        return ModelFederation(server, self.operator.broadcast(server, local.after, self.devices), entries)

    def broadcast_entries(self, state: ModelFederation) -> int:
        return state.broadcast_entries

    def evaluate(self, state: ModelFederation) -> Evaluation:
        results = []
        for task, split in enumerate(self.data.tests):
            _, logits = self.base.forward_with(state.server.parameters, split.x)
            results.append(means(classification_scores(logits, split.y), task))
        accuracies, losses = zip(*results, strict=True)
        return Evaluation(accuracies, losses)

    def named_tensors(self, state: ModelFederation) -> dict[str, Tensor]:
        """The server's model."""
        return {name: x.contiguous() for name, x in state.server.parameters.items()}
