"""One local step of devices side by side, as a function of tensors alone."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.models.base import AbstractBaseModel, AbstractModel
from airsim.learn.operators.payload import Live, LiveLayers
from airsim.learn.optimisers import AbstractGradient, AbstractOptimiser, FactorGradient

# A and B transposed of one layer, then each slot of both: as they change in place.
Trained = tuple[Tensor, ...]
_FACTORS = (Live.A, Live.B)


@dataclass(frozen=True)
class StepRule:
    """What all steps of a training share: model, scale, optimiser, and the factors that are trained."""

    model: AbstractModel
    scale: float
    optimiser: AbstractOptimiser
    live: LiveLayers | None

    def update(
        self, name: str, trained: Trained, gradients: tuple[AbstractGradient, AbstractGradient], count: Tensor
    ) -> None:
        """One step of A and of B transposed, in place, as far as they are trained."""
        live = Live.BOTH if self.live is None else self.live[name]
        for place, factor in enumerate(_FACTORS):
            if factor in live:
                self.optimiser.step(trained[place], gradients[place], trained[2 + place :: 2], count)


@dataclass(frozen=True)
class TracedStep:
    """The step of a model that leaves traces; a device alone comes without the leading axis.

    Its tensors are the parameters of the base, the batch (samples, labels, weights and, where it is known,
    the product), the count of steps, factors and slots layer by layer, and the terms that a method adds to
    the gradients of A and of B transposed, if any.
    """

    rule: StepRule
    model: AbstractBaseModel
    layers: tuple[str, ...]
    alone: bool
    known_product: bool
    corrected: bool

    def key(self, tensors: tuple[Tensor, ...]) -> Hashable:
        """What the step depends on beside the entries of its tensors."""
        live = None if self.rule.live is None else tuple(self.rule.live.items())
        fixed = (self.model.structure, self.rule.scale, repr(self.rule.optimiser), live, self.layers)
        kinds = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        return (*fixed, self.alone, self.known_product, self.corrected, kinds)

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Losses of the devices, whose factors and slots take the step."""
        rest = iter(tensors)
        parameters = {name: next(rest) for name in self.model.parameters}
        batch = PaddedBatch(*islice(rest, 3 + self.known_product))
        count = next(rest)
        trained = self._by_layer(rest, 2 + 2 * self.rule.optimiser.num_slots)
        terms = self._by_layer(rest, 2 * self.corrected)
        factors = {name: LoRAFactors(own[0], own[1].mT) for name, own in trained.items()}
        adapt = self.model.device_linears if self.alone else self.model.linears
        passed = self.model.backpropagate(batch, adapt(factors, self.rule.scale, parameters))
        for name, trace in passed.traces.items():
            a, b = terms[name] or (None, None)
            gradients = (
                FactorGradient(trace.projected.mT, trace.x, a),
                FactorGradient(trace.inner.mT, trace.d, b),
            )
            self.rule.update(name, trained[name], gradients, count)
        return passed.losses

    def _by_layer(self, tensors: Iterator[Tensor], number: int) -> dict[str, tuple[Tensor, ...]]:
        return {name: tuple(islice(tensors, number)) for name in self.layers}
