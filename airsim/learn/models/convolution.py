"""A convolution as a linear layer on patches, so that the same adapters sit on it."""

from dataclasses import dataclass
from typing import NamedTuple, final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import fold, unfold

from airsim.learn.models.staged import AbstractArrangement


class ImageShape(NamedTuple):
    """Channels, rows and columns of an image or feature map."""

    channels: int
    height: int
    width: int

    @property
    def features(self) -> int:
        """Entries of one image."""
        return self.channels * self.height * self.width


class Window(NamedTuple):
    """The square that a kernel sees, how far it moves, and the zeros around the image."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def output_shape(self, image: ImageShape, channels: int) -> ImageShape:
        """The feature map that a convolution makes of an image."""
        height, width = (
            (side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (image.height, image.width)
        )
        return ImageShape(channels, height, width)


@final
@dataclass(frozen=True)
class Patches(AbstractArrangement):
    """One row per sample and position: the entries of the image that the window sees there.

    Patch entries are ordered as ``torch.nn.functional.unfold`` orders them: channel, row, column.
    """

    image: ImageShape
    window: Window

    def to_rows(self, features: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack P I"]:
        kernel, stride, padding = self.window
        images = features.reshape(-1, *self.image)
        columns = unfold(images, kernel, padding=padding, stride=stride)
        return columns.mT.reshape(*features.shape[:-2], -1, columns.shape[1])

    def to_rows_gradient(self, d: Float[Tensor, "*stack P I"]) -> Float[Tensor, "*stack B F"]:
        kernel, stride, padding = self.window
        columns = d.reshape(-1, self.rows_per_sample, d.shape[-1]).mT
        images = fold(columns, self.image[1:], kernel, padding=padding, stride=stride)
        return images.reshape(*d.shape[:-2], -1, self.image.features)

    def to_features(self, y: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack B F"]:
        maps = y.unflatten(-2, (-1, self.rows_per_sample)).mT
        return maps.flatten(start_dim=-2)

    def to_features_gradient(self, d: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack P O"]:
        maps = d.unflatten(-1, (-1, self.rows_per_sample)).mT
        return maps.flatten(start_dim=-3, end_dim=-2)

    @property
    def rows_per_sample(self) -> int:
        """Positions of the window."""
        output = self.window.output_shape(self.image, channels=1)
        return output.height * output.width
