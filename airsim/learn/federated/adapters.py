"""Methods on low-rank adapters: every device trains an adapter of its own rank between two uploads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import payload_size
from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import Evaluation, Subject, means
from airsim.learn.federated.base import (
    AbstractLearner,
    LocalRound,
    mean_over_tasks,
    require_finite,
    weighted_view,
)
from airsim.learn.local_data import LocalData
from airsim.learn.local_state import OptimiserState, fresh_state
from airsim.learn.models.base import AbstractBaseModel, AbstractModel
from airsim.learn.models.heads import SampleScores
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.base import AbstractAggregationOperator, RoundView, merge, participants_of
from airsim.learn.operators.clustered import ClusterState
from airsim.learn.operators.payload import LiveLayers
from airsim.learn.prefix import with_products
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class AdapterFederation:
    """Base, server state, and what each device holds and its optimiser remembers.

    `broadcast_entries` are the real numbers that were broadcast to get here.
    """

    model: AbstractModel
    server: AdapterState | ClusterState
    held: AdapterStack
    memory: OptimiserState | None = None
    broadcast_entries: int = 0


@final
@dataclass(frozen=True)
class AdapterLearner(AbstractLearner[AdapterFederation]):
    """Rounds of all devices or of some, from `initial` on.

    A device that sits out hears the broadcasts; what is its own (rank, personal factor, momenta) stays. With
    `keep_memory`, momenta live from round to round. `learning_rate` is quoted where training diverges.
    """

    operator: AbstractAggregationOperator[AdapterStack, Any]
    training: LocalTraining
    data: FederatedData
    streams: RandomStreams
    initial: AdapterFederation
    learning_rate: float
    keep_memory: bool = False

    @property
    def devices(self) -> range:
        """Numbers of the devices."""
        return range(len(self.data.devices))

    def start(self) -> AdapterFederation:
        server = self.operator.start(self.initial.server)
        held = self.operator.broadcast(server, self.initial.held, self.devices)
        return replace(self.initial, server=server, held=held, broadcast_entries=payload_size(server.layers))

    def train(
        self, state: AdapterFederation, round_index: int, participants: Sequence[int] | None = None
    ) -> LocalRound[AdapterFederation]:
        devices = list(self.devices if participants is None else participants)
        before = state.held if len(devices) == len(self.devices) else state.held.take(devices)
        live = self.operator.live(state.server, round_index)
        losses, trained, memory = self._trained(state, (devices, before), live, round_index)
        require_finite(losses, round_index, self.learning_rate, devices)
        after = self.operator.finish_locally(before, trained, state.server)
        sizes, ranks = [float(split.size) for split in self.data.devices], state.held.ranks.clone()
        ranks[devices] = after.ranks
        view = RoundView(round_index, state.server, participants_of(sizes, ranks.tolist(), devices))
        sent = self.operator.encode(before, after, view)
        weighted = weighted_view(self.operator, sent, view)
        return LocalRound(weighted, after, losses, sent, self._remembered(state, devices, memory))

    def _trained(
        self,
        state: AdapterFederation,
        cohort: tuple[list[int], AdapterStack],
        live: LiveLayers,
        round_index: int,
    ) -> tuple[Float[Tensor, "K"], AdapterStack, OptimiserState]:
        """Devices of one kind side by side."""
        devices, before = cohort
        losses, after = torch.zeros(len(devices), device=self.data.device), before
        memory = self._memory(before) if state.memory is None else state.memory.take(devices)
        term, samples = self.operator.local_term(before, devices), self._samples(state.model)
        for rank, task, rows in self._groups(devices, before.ranks):
            scale = float(state.server.scaling.of(torch.tensor(rank)))
            training = replace(
                self.training, model=state.model.for_task(task), scale=scale, live=live, correction=term
            )
            own = samples.take([devices[row] for row in rows])
            result = training.run(
                before.take(rows).layers, own, (self.streams, round_index), memory.take(rows)
            )
            losses[rows] = result.losses
            after = after.put(rows, AdapterStack(result.layers, before.ranks[rows]))
            memory = memory.put(rows, result.state)
        return losses, after, memory

    def _samples(self, model: AbstractModel) -> LocalData:
        """Everybody's data, with the products of the lowest adapted layer while its weight is as it was."""
        lowest = next(name for name in model.layer_names if name in self.initial.server.layers)
        unchanged = model.base_weights[lowest] is self.initial.model.base_weights[lowest]
        return self._known if unchanged else LocalData(self.devices, self.data.devices)

    @cached_property
    def _known(self) -> LocalData:
        samples, model = LocalData(self.devices, self.data.devices), self.initial.model
        if not isinstance(model, AbstractBaseModel):
            return samples
        return with_products(model, samples, self.initial.server.layers)

    def _groups(self, devices: list[int], ranks: Int[Tensor, "K"]) -> list[tuple[int, int, list[int]]]:
        """Rank, task and places of each kind: a rank has one scale, and a task one head where heads differ.

        A model that leaves traces has its heads among its layers, so all its tasks train together.
        """
        one_base = isinstance(self.initial.model, AbstractBaseModel)
        tasks = [0 if one_base else self.data.task_of_device[device] for device in devices]
        kinds = list(zip(ranks.tolist(), tasks, strict=True))
        return [(*kind, [row for row, own in enumerate(kinds) if own == kind]) for kind in sorted(set(kinds))]

    def _memory(self, stack: AdapterStack) -> OptimiserState:
        return fresh_state(self.training.optimiser, stack.layers, stack.num_devices)

    def _remembered(
        self, state: AdapterFederation, devices: list[int], memory: OptimiserState
    ) -> OptimiserState | None:
        """What all devices' optimisers remember: those who sit out, what they did before."""
        if not self.keep_memory or len(devices) == len(self.devices):
            return memory if self.keep_memory else None
        return (state.memory or self._memory(state.held)).put(devices, memory)

    def merge(
        self,
        state: AdapterFederation,
        local: LocalRound[AdapterFederation],
        received: Float[Tensor, "*rows D"],
    ) -> AdapterFederation:
        update = self.operator.decode(received, local.view)
        weights = state.model.base_weights
        changed = {
            name: merge(weight, update, name)
            for name, weight in weights.items()
            if name in update.base_increment or not update.keeps_base
        }
        participants = local.view.participants.devices
        kept = local.after
        if len(participants) < len(self.devices):
            kept = state.held.put(participants, local.after)
        held = self.operator.broadcast(update.state, kept, self.devices)
        entries = self.operator.broadcast_entries(update, local.view, int(kept.ranks.max()))
        return AdapterFederation(
            state.model.with_base_weights(changed), update.state, held, local.memory, entries
        )

    def broadcast_entries(self, state: AdapterFederation) -> int:
        return state.broadcast_entries

    def rank(self, state: AdapterFederation, device: int) -> int:
        return int(state.held.ranks[device])

    def evaluate(self, state: AdapterFederation) -> Evaluation:
        known: dict[tuple[int, int], tuple[float, float]] = {}
        results = {}
        for device, twin in enumerate(self.twins(state)):
            task = self.data.task_of_device[device]
            if (twin, task) not in known:
                known[twin, task] = means(self.scores(state, device, task), task)
            results[device] = known[twin, task]
        return mean_over_tasks(results, self.data.task_of_device)

    def evaluate_global(self, state: AdapterFederation) -> Evaluation:
        layers = state.server.layers
        scale = float(state.server.scaling.of(torch.tensor(next(iter(layers.values())).rank)))
        results = [
            means(state.model.for_task(task).scores(split.x, split.y, layers, scale), task)
            for task, split in enumerate(self.data.tests)
        ]
        accuracies, losses = zip(*results, strict=True)
        return Evaluation(accuracies, losses, Subject.GLOBAL)

    def scores(
        self, state: AdapterFederation, device: int, task: int, head: int | None = None
    ) -> SampleScores:
        scale = float(state.server.scaling.of(state.held.ranks[device]))
        split = self.data.tests[task]
        layers = {name: factors.take(device) for name, factors in state.held.layers.items()}
        model = state.model.for_task(task if head is None else head)
        return model.scores(split.x, split.y, layers, scale)

    def twins(self, state: AdapterFederation) -> list[int]:
        first: list[int] = []
        for device in self.devices:
            alike = (k for k in dict.fromkeys(first) if _equal(state.held, (k, device)))
            first.append(next(alike, device))
        return first

    def named_tensors(self, state: AdapterFederation) -> dict[str, Tensor]:
        """The server's factors; and the base where a method changes it."""
        tensors: dict[str, Tensor] = {}
        for name, factors in state.server.layers.items():
            tensors |= {f"{name}.a": factors.a.contiguous(), f"{name}.b": factors.b.contiguous()}
        first, now = self.initial.model.base_weights, state.model.base_weights
        changed = {name: new for name, new in now.items() if not torch.equal(new, first[name])}
        return tensors | {f"base.{name}": new.contiguous() for name, new in changed.items()}


def _equal(stack: AdapterStack, pair: Sequence[int]) -> bool:
    """Whether two devices hold the same adapter."""
    one, other = pair
    return int(stack.ranks[one]) == int(stack.ranks[other]) and all(
        torch.equal(factors.a[one], factors.a[other]) and torch.equal(factors.b[one], factors.b[other])
        for factors in stack.layers.values()
    )
