"""Share the images of one task out among its devices."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from airsim.errors import DataError


class AbstractPartition(abc.ABC):
    """A rule that gives every image to exactly one device."""

    @abc.abstractmethod
    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the images that each device holds, ascending.

        Raises:
            DataError: there are too few images.
        """


@final
@dataclass(frozen=True)
class IidPartition(AbstractPartition):
    """A random split into shares that differ by at most one image."""

    min_images: int = 1

    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the images that each device holds, ascending."""
        require_enough(len(labels), num_devices, self.min_images)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), num_devices)]


@final
@dataclass(frozen=True)
class DirichletPartition(AbstractPartition):
    """Devices with unlike mixtures of classes: each class is cut in proportions drawn at random.

    The proportions follow a symmetric Dirichlet law: the smaller the concentration, the fewer classes a
    device sees. A device that comes out below `min_images` is filled up with random images of the device
    that then has most. Source: [Hsu19].
    """

    concentration: float
    min_images: int = 2

    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the images that each device holds, ascending."""
        require_enough(len(labels), num_devices, self.min_images)
        owner = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            proportions = rng.dirichlet(np.full(num_devices, self.concentration))
            cuts = np.rint(np.cumsum(proportions)[:-1] * len(members)).astype(np.int64)
            for device, part in enumerate(np.split(members, cuts)):
                owner[part] = device
        _fill_up(owner, num_devices, self.min_images, rng)
        return [np.flatnonzero(owner == device) for device in range(num_devices)]


def _fill_up(
    owner: Int[np.ndarray, "M"], num_devices: int, min_images: int, rng: np.random.Generator
) -> None:
    """Move images one by one, in place, from the richest device to the poorest until none is too poor."""
    counts = np.bincount(owner, minlength=num_devices)
    while counts.min() < min_images:
        poorest, richest = int(counts.argmin()), int(counts.argmax())
        owner[rng.choice(np.flatnonzero(owner == richest))] = poorest
        counts[poorest] += 1
        counts[richest] -= 1


def require_enough(num_images: int, num_devices: int, min_images: int) -> None:
    """Raise a `DataError` where the images do not suffice."""
    if num_images < num_devices * min_images:
        raise DataError(
            f"{num_images} samples cannot give {num_devices} devices {min_images} each; take more training "
            "images or texts, fewer devices, or a smaller learning.data.partition.min_images"
        )


def share_out(total: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in proportion to `shares` that add up to `total`, by largest remainder."""
    exact = total * np.asarray(shares, dtype=np.float64) / np.sum(shares)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return tuple(int(count) for count in counts)
