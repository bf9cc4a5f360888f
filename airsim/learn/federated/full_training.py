"""Local training of all parameters of a base model, a chunk of devices side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.batches import PaddedBatch
from airsim.learn.federated.local_terms import AbstractLocalTerm
from airsim.learn.federated.model_memory import ModelMemory, fresh_memory
from airsim.learn.local_data import LocalData
from airsim.learn.models.trainable import AbstractTrainable
from airsim.learn.operators.full_model import ModelStack
from airsim.learn.optimisers import AbstractOptimiser, DenseGradient
from airsim.learn.schedules import LocalSchedule
from airsim.randomness import RandomStreams

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainedModels:
    """Mean losses over the steps, all devices' parameters, and what their optimisers remember if asked."""

    losses: Float[Tensor, "K"]
    parameters: Parameters
    memory: ModelMemory | None


@dataclass(frozen=True)
class FullTraining:
    """The model, schedule and optimiser, and what a method adds to the devices' objective."""

    model: AbstractTrainable
    schedule: LocalSchedule
    optimiser: AbstractOptimiser
    term: AbstractLocalTerm

    def run(
        self,
        before: ModelStack,
        data: LocalData,
        tasks: Sequence[int],
        draws: tuple[RandomStreams, int],
        memory: ModelMemory | None = None,
    ) -> TrainedModels:
        """Train every device of `data`, whose tasks are given; without a memory optimisers begin anew."""
        losses = next(iter(before.parameters.values())).new_zeros(len(data.devices))
        after = {name: x.clone() for name, x in before.parameters.items()}
        kept = None if memory is None else memory.take(range(len(data.devices)))
        for task, places in self._chunks([split.size for split in data.splits], tasks):
            chunk, received = replace(self, model=self.model.for_task(task)), before.take(places)
            known = fresh_memory(self.optimiser, received.parameters) if kept is None else kept.take(places)
            losses[places], trained = chunk._train(received, data.take(places), draws, known)
            for name, x in trained.items():
                after[name][places] = x
            if kept is not None:
                kept.write(places, known)
        return TrainedModels(losses, after, kept)

    def _train(
        self, before: ModelStack, data: LocalData, draws: tuple[RandomStreams, int], memory: ModelMemory
    ) -> tuple[Float[Tensor, "K"], Parameters]:
        """Devices side by side; the memory changes in place."""
        now = {name: x.clone() for name, x in before.parameters.items()}
        losses = []
        for batch in data.batches(self.schedule, *draws):
            loss, gradient = self._gradient(now, before, batch.stacked())
            losses.append(loss)
            memory.counts.add_(1)
            for name, x in now.items():
                count = memory.counts.view(-1, *[1] * (x.ndim - 1))
                self.optimiser.step(x, DenseGradient(gradient[name]), memory.slots[name], count)
        return torch.stack(losses).mean(dim=0), now

    def _gradient(
        self, now: Parameters, before: ModelStack, batch: PaddedBatch
    ) -> tuple[Float[Tensor, "K"], Parameters]:
        """Each device's loss without the method's term, and its gradient with it."""
        leaves = {name: x.detach().requires_grad_() for name, x in now.items()}
        features, logits = self.model.forward_with(leaves, batch.x)
        losses = _mean_losses(logits, batch)
        total = losses.sum() + self.term.loss(features, before, batch)
        found = torch.autograd.grad(total, list(leaves.values()))
        gradient = dict(zip(leaves, found, strict=True))
        return losses.detach(), self.term.adjusted(gradient, now, before)

    def _chunks(self, sizes: Sequence[int], tasks: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Devices that take equally many steps and have one head, some at a time, with their task."""
        kinds = [
            (self.schedule.steps_of(size), task if self.model.heads_differ else 0)
            for size, task in zip(sizes, tasks, strict=True)
        ]
        order = sorted(range(len(kinds)), key=kinds.__getitem__)
        groups = [(task, list(places)) for (_, task), places in groupby(order, key=kinds.__getitem__)]
        width = self.model.devices_side_by_side
        return [(task, g[i : i + width]) for task, g in groups for i in range(0, len(g), width)]


def _mean_losses(logits: Float[Tensor, "K B C"], batch: PaddedBatch) -> Float[Tensor, "K"]:
    log_probabilities = torch.log_softmax(logits, dim=-1)
    picked = log_probabilities.gather(-1, batch.y.unsqueeze(-1)).squeeze(-1)
    return -(picked * batch.weights.to(picked.dtype)).sum(dim=-1)
