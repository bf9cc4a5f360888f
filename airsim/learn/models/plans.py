"""The sizes of a base before it has weights."""

import abc
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

from torch import Tensor

from airsim.learn.adapters import LayerShape
from airsim.learn.models.cnn import FrozenCNN
from airsim.learn.models.convolution import ImageShape, Window
from airsim.learn.models.mlp import FrozenMLP
from airsim.learn.models.staged import AbstractStagedModel


class AbstractPlan(abc.ABC):
    """What kind of model, and how wide it is."""

    @property
    @abc.abstractmethod
    def shapes(self) -> dict[str, LayerShape]:
        """Widths of every layer, by name, from input to output."""

    @property
    def adapted_shapes(self) -> dict[str, LayerShape]:
        """Widths of the layers that carry adapters: all unless the plan says so."""
        return self.shapes

    @property
    @abc.abstractmethod
    def digest(self) -> list[int | str]:
        """What tells two plans apart, for a cache."""

    @abc.abstractmethod
    def build(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> AbstractStagedModel:
        """The model with these weights."""


@final
@dataclass(frozen=True)
class MlpPlan(AbstractPlan):
    """Widths from the input to the number of classes."""

    sizes: tuple[int, ...]

    @property
    def shapes(self) -> dict[str, LayerShape]:
        return {f"layer{index}": LayerShape(*pair) for index, pair in enumerate(pairwise(self.sizes))}

    @property
    def digest(self) -> list[int | str]:
        return list(self.sizes)

    def build(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> FrozenMLP:
        return FrozenMLP(tuple(weights), tuple(biases))


@final
@dataclass(frozen=True)
class CnnPlan(AbstractPlan):
    """Convolutions with one window and these numbers of channels, then linear layers.

    Adapters sit on the layers in whose names (``conv0``, ..., ``linear0``, ...) `adapted` is found.
    """

    image: ImageShape
    window: Window
    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    num_classes: int
    adapted: str = ""

    @property
    def shapes(self) -> dict[str, LayerShape]:
        shapes, image = {}, self.image
        for index, channels in enumerate(self.channels):
            shapes[f"conv{index}"] = LayerShape(image.channels * self.window.kernel**2, channels)
            image = self.window.output_shape(image, channels)
        widths = (image.features, *self.hidden, self.num_classes)
        return shapes | {f"linear{index}": LayerShape(*pair) for index, pair in enumerate(pairwise(widths))}

    @property
    def adapted_shapes(self) -> dict[str, LayerShape]:
        return {name: shape for name, shape in self.shapes.items() if re.search(self.adapted, name)}

    @property
    def digest(self) -> list[int | str]:
        return ["cnn", *self.image, *self.window, *self.channels, "linear", *self.hidden, self.num_classes]

    def build(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> FrozenCNN:
        windows = (self.window,) * len(self.channels)
        model = FrozenCNN(self.image, windows, tuple(weights), tuple(biases))
        return replace(model, adapted=tuple(self.adapted_shapes))
