"""What every base model offers: logits, and a backward pass that leaves a trace at each adapter."""

import abc
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LayerShape, LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.lora import AbstractLinear


@dataclass(frozen=True)
class LayerTrace:
    """What one adapted layer saw: all that gradients of its factors are made of.

    Input ``x``, inner activation ``h = c x A^T``, derivative ``d`` at the output and ``p = c d B``, one row
    per sample (or per sample and position): the gradients are ``p^T x`` for A and ``d^T h`` for B.
    """

    x: Float[Tensor, "*K P I"]
    inner: Float[Tensor, "*K P R"]
    d: Float[Tensor, "*K P O"]
    projected: Float[Tensor, "*K P R"]


@dataclass(frozen=True)
class Backpropagation:
    """Mean loss of every device, and a trace of every adapted layer, from input to output."""

    losses: Float[Tensor, "*K"]
    traces: Mapping[str, LayerTrace]


class AbstractBaseModel(abc.ABC):
    """A frozen model with linear layers that adapters are added to.

    `layers` maps names of layers to adapters that are common to all samples or stacked like them; a layer
    that is not named stays as it is.
    """

    @property
    @abc.abstractmethod
    def layer_shapes(self) -> dict[str, LayerShape]:
        """Widths of each layer that can carry an adapter, by name, from input to output."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can carry an adapter, from input to output."""
        return tuple(self.layer_shapes)

    @property
    def entries_per_sample(self) -> int:
        """Real entries that one sample brings to the layers and their outputs: the measure of a chunk."""
        return sum(sum(shape) for shape in self.layer_shapes.values())

    @abc.abstractmethod
    def forward(
        self, x: Float[Tensor, "*stack B F"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "*stack B C"]:
        """Logits of the base with the adapters' updates added."""

    @abc.abstractmethod
    def linears(self, layers: Mapping[str, LoRAFactors], scale: float) -> dict[str, AbstractLinear]:
        """Every layer with its adapter beside it."""

    def device_linears(self, layers: Mapping[str, LoRAFactors], scale: float) -> dict[str, AbstractLinear]:
        """Every layer with the adapter of one device that trains alone, where that saves work."""
        return self.linears(layers, scale)

    def merged_linears(self, layers: Mapping[str, LoRAFactors], scale: float) -> dict[str, AbstractLinear]:
        """Every layer with the adapter that all devices share merged into it, where that saves work."""
        return self.linears(layers, scale)

    @abc.abstractmethod
    def backpropagate(self, batch: PaddedBatch, linears: Mapping[str, AbstractLinear]) -> Backpropagation:
        """One forward and backward pass of the devices' mean losses."""

    @abc.abstractmethod
    def below(self, x: Float[Tensor, "B F"], adapted: Collection[str]) -> tuple[Tensor, Tensor]:
        """The input of the lowest adapted layer, and what its frozen part makes of it (bias included).

        Neither changes while data and base stay the same: `learn.prefix` keeps both.
        """

    @abc.abstractmethod
    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one sample's forward and backward pass with adapters of this rank."""
