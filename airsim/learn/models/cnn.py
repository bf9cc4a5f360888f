"""A small convolutional network that is never trained again."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LayerShape
from airsim.learn.models.convolution import ImageShape, Patches, Window
from airsim.learn.models.staged import AbstractStagedModel, Dense, Stage


@final
@dataclass(frozen=True)
class FrozenCNN(AbstractStagedModel):
    """Convolutions (strides take the place of pooling), then linear layers, with rectifiers between all.

    Kernels are matrices of output channels by patch entries. Every layer can carry an adapter, or those that
    `adapted` names in order; that of a convolution is a low-rank update of this matrix.
    """

    image: ImageShape
    windows: tuple[Window, ...]
    weights: tuple[Float[Tensor, "_ _"], ...]
    biases: tuple[Float[Tensor, "_"], ...]
    adapted: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.biases) > len(self.windows):
            raise ValueError(
                f"{len(self.weights)} weights, {len(self.biases)} biases and {len(self.windows)} windows: "
                "give a weight and a bias per layer, convolutions first, and at least one linear layer"
            )
        for index, (weight, expected) in enumerate(zip(self.weights, self._input_widths(), strict=True)):
            if weight.shape[1] != expected or weight.shape[0] != self.biases[index].shape[0]:
                raise ValueError(
                    f"layer {index}: weight {tuple(weight.shape)} and bias {tuple(self.biases[index].shape)} "
                    f"do not follow an input of width {expected}: give (outputs, {expected}) and (outputs,)"
                )

    @property
    def maps(self) -> tuple[ImageShape, ...]:
        """Shapes from the image to the last feature map."""
        maps = [self.image]
        for window, weight in zip(self.windows, self.weights, strict=False):
            maps.append(window.output_shape(maps[-1], channels=weight.shape[0]))
        return tuple(maps)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Convolutions on patches, then linear layers."""
        arrangements = [
            Patches(image, window) for image, window in zip(self.maps, self.windows, strict=False)
        ]
        convolutions, linears = len(self.windows), len(self.weights) - len(self.windows)
        names = [f"conv{index}" for index in range(convolutions)] + [f"linear{i}" for i in range(linears)]
        parts = zip(self.weights, self.biases, (*arrangements, *[Dense()] * linears), strict=True)
        return {name: Stage(*part) for name, part in zip(names, parts, strict=True)}

    def with_base_dtype(self, dtype: torch.dtype) -> "FrozenCNN":
        """The same model with its weights stored, and its base products computed, in another type."""
        return replace(self, weights=tuple(weight.to(dtype) for weight in self.weights))

    @property
    def layer_shapes(self) -> dict[str, LayerShape]:
        """Widths of each layer that can carry an adapter, by name."""
        every = {name: stage.shape for name, stage in self.stages.items()}
        return every if self.adapted is None else {name: every[name] for name in self.adapted}

    def _rebuilt(self, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> "FrozenCNN":
        return replace(self, weights=weights, biases=biases)

    def _input_widths(self) -> list[int]:
        patches = [
            image.channels * window.kernel**2 for image, window in zip(self.maps, self.windows, strict=False)
        ]
        hidden = [weight.shape[0] for weight in self.weights[len(self.windows) : -1]]
        return [*patches, self.maps[-1].features, *hidden]
