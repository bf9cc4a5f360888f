"""Devices in the middle of their training."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.corrections import AbstractCorrection
from airsim.learn.local_state import OptimiserState, TrainedCohort, stacked, working_copy
from airsim.learn.local_step import StepRule, TracedStep, Trained
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.optimisers import DenseGradient
from airsim.learn.recording import LOCAL_STEPS

# What a method adds to the gradients of A and of B transposed, by layer; nothing for most methods.
Terms = Mapping[str, tuple[Tensor, Tensor]]


class LocalChunk:
    """Devices that step together; their factors and slots change in place."""

    def __init__(
        self,
        rule: StepRule,
        devices: Sequence[int],
        received: Mapping[str, LoRAFactors],
        state: OptimiserState,
        correction: AbstractCorrection | None,
    ) -> None:
        self._rule, self._devices, self._received = rule, devices, received
        self._correction = correction
        self._alone = len(devices) == 1 and isinstance(rule.model, AbstractBaseModel)
        self._counts = state.counts  # changed in place, as factors and slots are
        self._losses: list[Tensor] = []
        self._factors = {name: working_copy(factors, self._alone) for name, factors in received.items()}
        self._slots = {
            name: tuple(working_copy(slot, self._alone) for slot in kept)
            for name, kept in state.slots.items()
        }
        self._steps: dict[torch.Size, tuple[TracedStep, Hashable]] = {}  # by the shape of a batch
        # Views of what changes, made once. One counter per device is shaped to go along with its factors.
        self._trained = {name: self._views((own, *self._slots[name])) for name, own in self._factors.items()}
        self._count = self._counts.view(-1, 1) if self._alone else self._counts.view(-1, 1, 1)

    @staticmethod
    def _views(pairs: Sequence[LoRAFactors]) -> Trained:
        return tuple(chain.from_iterable((factors.a, factors.b.mT) for factors in pairs))

    def step(self, batch: PaddedBatch) -> None:
        """One step of every device on its batch."""
        self._counts.add_(1)
        rule = self._correction
        terms = {} if rule is None else {name: self._term(rule, name) for name in self._received}
        model = self._rule.model
        if isinstance(model, AbstractBaseModel):
            losses = self._traced(model, batch, terms)
        else:
            losses = self._at_once(batch, terms)
        self._losses.append(losses)

    def _traced(self, model: AbstractBaseModel, batch: PaddedBatch, terms: Terms) -> Tensor:
        known = () if batch.product is None else (batch.product,)
        tensors = (
            *model.parameters.values(),
            *(batch.x, batch.y, batch.weights, *known),
            self._count,
            *chain.from_iterable(self._trained.values()),
            *chain.from_iterable(terms.values()),
        )
        if batch.y.shape not in self._steps:
            layers = tuple(self._received)
            step = TracedStep(self._rule, model, layers, self._alone, bool(known), bool(terms))
            self._steps[batch.y.shape] = step, step.key(tensors)
        step, key = self._steps[batch.y.shape]
        return LOCAL_STEPS.call(key, step, tensors)

    def _at_once(self, batch: PaddedBatch, terms: Terms) -> Tensor:
        whole = self._rule.model.device_gradients(self._factors, self._rule.scale, batch.stacked())
        for name, factors in whole.layers.items():
            a, b = factors.a, factors.b.mT
            if name in terms:
                a, b = a + terms[name][0], b + terms[name][1]
            gradients = DenseGradient(a), DenseGradient(b)
            self._rule.update(name, self._trained[name], gradients, self._count)
        return whole.losses

    def _term(self, rule: AbstractCorrection, name: str) -> tuple[Tensor, Tensor]:
        term = rule.of(name, self._devices, stacked(self._factors[name], self._alone), self._received[name])
        return (term.a.squeeze(0), term.b.mT.squeeze(0)) if self._alone else (term.a, term.b.mT)

    def result(self) -> TrainedCohort:
        """Where the devices have arrived."""
        layers = {name: stacked(factors, self._alone) for name, factors in self._factors.items()}
        slots = {
            name: tuple(stacked(slot, self._alone) for slot in kept) for name, kept in self._slots.items()
        }
        losses = torch.stack(self._losses).mean(dim=0).view(-1)
        return TrainedCohort(losses, layers, OptimiserState(self._counts, slots))
