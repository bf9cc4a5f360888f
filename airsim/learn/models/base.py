"""What every base model offers: logits, and a backward pass that leaves a trace at each adapter."""

import abc
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapters import LayerShape, LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.lora import AbstractLinear
from airsim.learn.models.heads import SampleScores, classification_scores


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

    def gradients(self) -> LoRAFactors:
        """Gradients ``p^T x`` and ``d^T h`` of every device's factors."""
        return LoRAFactors(self.projected.mT @ self.x, self.d.mT @ self.inner)


@dataclass(frozen=True)
class Backpropagation:
    """Mean loss of every device, and a trace of every adapted layer, from input to output."""

    losses: Float[Tensor, "*K"]
    traces: Mapping[str, LayerTrace]


@dataclass(frozen=True)
class DeviceGradients:
    """Mean loss and gradient of every device, for the fused factors of each layer."""

    losses: Float[Tensor, "K"]
    layers: Mapping[str, LoRAFactors]


class AbstractModel(abc.ABC):
    """A frozen model with linear layers that adapters are added to.

    `layers` maps names of layers to adapters that are common to all samples or stacked like them; a layer
    that is not named stays as it is.
    """

    @property
    @abc.abstractmethod
    def layer_shapes(self) -> Mapping[str, LayerShape]:
        """Widths of each layer that can carry an adapter, by name, from input to output."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can carry an adapter, from input to output."""
        return tuple(self.layer_shapes)

    @property
    @abc.abstractmethod
    def base_weights(self) -> Mapping[str, Tensor]:
        """Frozen weights (outputs, inputs) of the layers that can carry an adapter, by name."""

    @abc.abstractmethod
    def with_base_weights(self, weights: Mapping[str, Tensor]) -> "AbstractModel":
        """The same model with some of them replaced; this one is left as it is."""

    @abc.abstractmethod
    def to(self, device: torch.device) -> "AbstractModel":
        """The same model on a device; it computes there from then on."""

    @abc.abstractmethod
    def for_task(self, task: int) -> "AbstractModel":
        """The model with what one task adds to it, such as a head of its own."""

    @abc.abstractmethod
    def scores(self, x: Tensor, y: Tensor, layers: Mapping[str, LoRAFactors], scale: float) -> SampleScores:
        """Right answers and losses, sample by sample."""

    @abc.abstractmethod
    def device_gradients(
        self, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch
    ) -> DeviceGradients:
        """Mean loss of each device in a batch, and its gradient with respect to the adapters."""

    @abc.abstractmethod
    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one sample's forward and backward pass with adapters of this rank."""


class AbstractBaseModel(AbstractModel):
    """A model that leaves traces, from which gradients, their sums and their moments are made."""

    @property
    @abc.abstractmethod
    def structure(self) -> Hashable:
        """All that a pass depends on beside parameters and adapters."""

    @property
    @abc.abstractmethod
    def entries_per_sample(self) -> int:
        """Real entries that one sample brings to the layers and their outputs: the measure of a chunk."""

    @property
    @abc.abstractmethod
    def parameters(self) -> Mapping[str, Tensor]:
        """All frozen tensors by name."""

    @abc.abstractmethod
    def forward(
        self, x: Float[Tensor, "*stack B F"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "*stack B C"]:
        """Logits of the base with the adapters' updates added."""

    def for_task(self, task: int) -> "AbstractBaseModel":
        """All tasks use the same base: their heads are the last layer with their adapters."""
        return self

    def scores(
        self, x: Float[Tensor, "M F"], y: Int[Tensor, "M"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> SampleScores:
        """Right answers and cross-entropy, sample by sample."""
        return classification_scores(self.forward(x, layers, scale), y)

    def device_gradients(
        self, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch
    ) -> DeviceGradients:
        r"""Gradient of each device's mean cross-entropy with respect to the fused adapters.

        The adapters are common to all devices, or stacked: one pair of factors per device, smaller ranks
        filled up with zeros, whose gradients are zero as well. With :math:`d` the loss derivative at a
        layer's output, :math:`x` its input and :math:`h = c x A^T`,

        .. math:: \nabla B_k = \sum_{i \in k} d_i h_i^T, \qquad \nabla A_k = c \sum_{i \in k} B^T d_i x_i^T.

        Frozen weights need no gradient, so these two small products are all that differs between devices.
        """
        passed = self.backpropagate(batch, self.linears(layers, scale))
        return DeviceGradients(
            passed.losses, {name: trace.gradients() for name, trace in passed.traces.items()}
        )

    @abc.abstractmethod
    def linears(
        self, layers: Mapping[str, LoRAFactors], scale: float, parameters: Mapping[str, Tensor] | None = None
    ) -> dict[str, AbstractLinear]:
        """Every layer with its adapter beside it; `parameters` stand for the model's own."""

    def device_linears(
        self, layers: Mapping[str, LoRAFactors], scale: float, parameters: Mapping[str, Tensor] | None = None
    ) -> dict[str, AbstractLinear]:
        """Every layer with the adapter of one device that trains alone, where that saves work."""
        return self.linears(layers, scale, parameters)

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
