"""What methods on full parameters add to a device's objective, or to its gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.batches import PaddedBatch
from airsim.learn.operators.full_model import ModelStack
from airsim.learn.operators.local_objective import (
    contrastive_loss,
    corrected_gradient,
    next_control,
    proximal_gradient,
)

Parameters = Mapping[str, Tensor]
Features = Callable[[Parameters, Tensor], tuple[Tensor, Tensor]]


class AbstractLocalTerm:
    """Nothing, unless a method says so: plain FedAvg."""

    def loss(self, features: Float[Tensor, "K B H"], before: ModelStack, batch: PaddedBatch) -> Tensor:
        """A term of the summed losses, given the last hidden features."""
        return features.new_zeros(())

    def adjusted(self, gradient: Parameters, now: Parameters, before: ModelStack) -> Parameters:
        """The direction that the optimiser gets."""
        return gradient

    def private(self, before: ModelStack, after: Parameters, step_sums: Float[Tensor, "K"]) -> Parameters:
        """What each device keeps for itself afterwards."""
        return before.private


@final
@dataclass(frozen=True)
class ProximalTerm(AbstractLocalTerm):
    """FedProx."""

    weight: float

    def adjusted(self, gradient: Parameters, now: Parameters, before: ModelStack) -> Parameters:
        pull = proximal_gradient(now, before.parameters, self.weight)
        return {name: x + pull[name] for name, x in gradient.items()}


@final
@dataclass(frozen=True)
class ControlTerm(AbstractLocalTerm):
    """SCAFFOLD, with the server's control variate of this round."""

    common: Parameters

    def adjusted(self, gradient: Parameters, now: Parameters, before: ModelStack) -> Parameters:
        return corrected_gradient(gradient, before.private, self.common)

    def private(self, before: ModelStack, after: Parameters, step_sums: Float[Tensor, "K"]) -> Parameters:
        rows = []
        for row, step_sum in enumerate(step_sums.tolist()):
            own, start, end = (
                {n: x[row] for n, x in p.items()} for p in (before.private, before.parameters, after)
            )
            rows.append(next_control(own, self.common, start, end, step_sum))
        return {name: torch.stack([row[name] for row in rows]) for name in self.common}


@final
@dataclass(frozen=True)
class ContrastiveTerm(AbstractLocalTerm):
    """MOON; the private models are those of the devices' last participation."""

    weight: float
    temperature: float
    features: Features

    def loss(self, features: Float[Tensor, "K B H"], before: ModelStack, batch: PaddedBatch) -> Tensor:
        with torch.no_grad():
            common = self.features(before.parameters, batch.x)[0]
            previous = self.features(before.private, batch.x)[0]
        apart = contrastive_loss(features, common, previous, self.temperature)
        return self.weight * (apart * batch.weights).sum()
