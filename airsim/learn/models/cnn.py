"""A small convolutional network that is never trained again."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.models.convolution import ImageShape, Patches, Window
from airsim.learn.models.staged import AbstractStagedModel, Dense, Stage


@final
@dataclass(frozen=True)
class FrozenCNN(AbstractStagedModel):
    """Convolutions (strides take the place of pooling), then linear layers, with rectifiers between all.

    Kernels are matrices of output channels by patch entries. Every layer can carry an adapter; that of a
    convolution is a low-rank update of this matrix.
    """

    image: ImageShape
    windows: tuple[Window, ...]
    weights: tuple[Float[Tensor, "_ _"], ...]
    biases: tuple[Float[Tensor, "_"], ...]

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

    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one sample's forward and backward pass with adapters of this rank.

        As for `FrozenMLP`, with the work of a convolution at each of its positions; rearranging patches is
        left out.
        """
        shapes, positions = list(self.layer_shapes.values()), self._positions
        base = [count * shape.inputs * shape.outputs for count, shape in zip(positions, shapes, strict=True)]
        first = positions[0] * shapes[0].inputs
        return 2 * sum(base) + 2 * sum(base[1:]) + 6 * rank * self.entries_per_sample - 2 * rank * first

    @property
    def entries_per_sample(self) -> int:
        """Real entries that one sample brings to the layers and their outputs, position by position."""
        shapes = self.layer_shapes.values()
        return sum(count * sum(shape) for count, shape in zip(self._positions, shapes, strict=True))

    @property
    def _positions(self) -> list[int]:
        """Rows that each layer makes of one sample."""
        maps = self.maps[1:]
        return [image.height * image.width for image in maps] + [1] * (len(self.weights) - len(maps))

    def _input_widths(self) -> list[int]:
        patches = [
            image.channels * window.kernel**2 for image, window in zip(self.maps, self.windows, strict=False)
        ]
        hidden = [weight.shape[0] for weight in self.weights[len(self.windows) : -1]]
        return [*patches, self.maps[-1].features, *hidden]
