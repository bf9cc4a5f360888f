"""A multilayer perceptron that is never trained again."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapters import LayerShape, LoRAFactors
from airsim.learn.lora import adapted_linear
from airsim.learn.models.heads import SampleScores, classification_scores


@dataclass(frozen=True)
class FrozenMLP:
    """Linear layers with rectifiers between them; every layer, the head too, can carry an adapter."""

    weights: tuple[Float[Tensor, "_ _"], ...]
    biases: tuple[Float[Tensor, "_"], ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.biases) or not self.weights:
            raise ValueError(
                f"{len(self.weights)} weights and {len(self.biases)} biases: give one of each per layer"
            )
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            expected = self.weights[index - 1].shape[0] if index else weight.shape[1]
            if weight.shape[1] != expected or weight.shape[0] != bias.shape[0]:
                raise ValueError(
                    f"layer {index}: weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not follow "
                    f"a layer of width {expected}: give (outputs, inputs) and (outputs,)"
                )

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers from input to output."""
        return tuple(f"layer{index}" for index in range(len(self.weights)))

    @property
    def layer_shapes(self) -> dict[str, LayerShape]:
        """Widths of each layer, by name."""
        shapes = (LayerShape(weight.shape[1], weight.shape[0]) for weight in self.weights)
        return dict(zip(self.layer_names, shapes, strict=True))

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Widths from the input to the number of classes."""
        return (self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights))

    def forward(
        self, x: Float[Tensor, "*stack B F"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "*stack B C"]:
        """Logits of the base with the adapters' updates added; factors may be stacked like ``x``."""
        for index, name in enumerate(self.layer_names):
            x, _ = adapted_linear(
                torch.relu(x) if index else x, self.weights[index], self.biases[index], layers[name], scale
            )
        return x

    def for_task(self, task: int) -> "FrozenMLP":
        """All tasks use the same base: their heads are the last layer with their adapters."""
        return self

    def scores(
        self, x: Float[Tensor, "M F"], y: Int[Tensor, "M"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> SampleScores:
        """Right answers and cross-entropy, sample by sample."""
        return classification_scores(self.forward(x, layers, scale), y)

    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one sample's forward and backward pass with adapters of this rank.

        Frozen weights need no gradient, so a layer costs ``2 I O`` forward and ``2 I O`` back to its input,
        its adapter ``2 R (I + O)`` forward and ``4 R (I + O)`` backward; the first layer passes nothing back
        (``2 I O + 2 R I`` less). Biases, rectifiers and the softmax are left out.
        """
        shapes = list(self.layer_shapes.values())
        forward = sum(2 * shape.inputs * shape.outputs for shape in shapes)
        backward = sum(2 * shape.inputs * shape.outputs for shape in shapes[1:])
        adapters = sum(6 * rank * (shape.inputs + shape.outputs) for shape in shapes)
        return forward + backward + adapters - 2 * rank * shapes[0].inputs
