"""A multilayer perceptron that is never trained again."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.models.staged import AbstractStagedModel, Dense, Stage


@final
@dataclass(frozen=True)
class FrozenMLP(AbstractStagedModel):
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

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The layers by name, from input to output."""
        parts = enumerate(zip(self.weights, self.biases, strict=True))
        return {f"layer{index}": Stage(weight, bias, Dense()) for index, (weight, bias) in parts}

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Widths from the input to the number of classes."""
        return (self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights))

    def with_base_dtype(self, dtype: torch.dtype) -> "FrozenMLP":
        """The same model with its weights stored, and its base products computed, in another type."""
        return replace(self, weights=tuple(weight.to(dtype) for weight in self.weights))

    def _rebuilt(self, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> "FrozenMLP":
        return replace(self, weights=weights, biases=biases)
