"""Local training of all parameters of a base model, a chunk of devices side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.batches import PaddedBatch
from airsim.learn.federated.local_terms import AbstractLocalTerm
from airsim.learn.local_data import LocalData
from airsim.learn.operators.full_model import ModelStack
from airsim.learn.optimisers import AbstractOptimiser, DenseGradient, new_slots
from airsim.learn.schedules import LocalSchedule
from airsim.randomness import RandomStreams

# Sums do not mix devices, so another number gives other bits only through the products' shapes.
DEVICES_PER_CHUNK = 16

Parameters = Mapping[str, Tensor]
# Parameters and samples to the last hidden features and the logits.
Forward = Callable[[Parameters, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FullTraining:
    """The model's forward pass, schedule and optimiser, and what a method adds to the devices' objective."""

    forward: Forward
    schedule: LocalSchedule
    optimiser: AbstractOptimiser
    term: AbstractLocalTerm

    def run(
        self, before: ModelStack, data: LocalData, draws: tuple[RandomStreams, int]
    ) -> tuple[Float[Tensor, "K"], dict[str, Tensor]]:
        """Mean losses over the steps, and all devices' parameters afterwards."""
        losses = torch.zeros(len(data.devices), device=data.splits[0].x.device)
        after = {name: x.clone() for name, x in before.parameters.items()}
        for places in self._chunks([split.size for split in data.splits]):
            loss, trained = self._train(before.take(places), data.take(places), draws)
            losses[places] = loss
            for name, x in trained.items():
                after[name][places] = x
        return losses, after

    def _train(
        self, before: ModelStack, data: LocalData, draws: tuple[RandomStreams, int]
    ) -> tuple[Float[Tensor, "K"], Parameters]:
        now = {name: x.clone() for name, x in before.parameters.items()}
        slots = {name: new_slots(self.optimiser, x) for name, x in now.items()}
        losses = []
        for step, batch in enumerate(data.batches(self.schedule, *draws)):
            loss, gradient = self._gradient(now, before, batch.stacked())
            losses.append(loss)
            for name, x in now.items():
                count = torch.full((len(x), *[1] * (x.ndim - 1)), step + 1, device=x.device)
                self.optimiser.step(x, DenseGradient(gradient[name]), slots[name], count)
        return torch.stack(losses).mean(dim=0), now

    def _gradient(
        self, now: Parameters, before: ModelStack, batch: PaddedBatch
    ) -> tuple[Float[Tensor, "K"], Parameters]:
        """Each device's loss without the method's term, and its gradient with it."""
        leaves = {name: x.detach().requires_grad_() for name, x in now.items()}
        features, logits = self.forward(leaves, batch.x)
        losses = _mean_losses(logits, batch)
        total = losses.sum() + self.term.loss(features, before, batch)
        found = torch.autograd.grad(total, list(leaves.values()))
        gradient = dict(zip(leaves, found, strict=True))
        return losses.detach(), self.term.adjusted(gradient, now, before)

    def _chunks(self, sizes: Sequence[int]) -> list[list[int]]:
        """Devices that take equally many steps, some at a time."""
        order = sorted(range(len(sizes)), key=lambda place: self.schedule.steps_of(sizes[place]))
        groups = [list(g) for _, g in groupby(order, key=lambda place: self.schedule.steps_of(sizes[place]))]
        return [g[i : i + DEVICES_PER_CHUNK] for g in groups for i in range(0, len(g), DEVICES_PER_CHUNK)]


def _mean_losses(logits: Float[Tensor, "K B C"], batch: PaddedBatch) -> Float[Tensor, "K"]:
    log_probabilities = torch.log_softmax(logits, dim=-1)
    picked = log_probabilities.gather(-1, batch.y.unsqueeze(-1)).squeeze(-1)
    return -(picked * batch.weights).sum(dim=-1)
