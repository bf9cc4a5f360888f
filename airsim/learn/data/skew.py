"""Devices that see few classes, or hold unequal amounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from airsim.errors import DataError
from airsim.learn.data.partition import AbstractPartition, require_enough, share_out
from airsim.randomness import RandomStreams


@final
@dataclass(frozen=True)
class OneClassPartition(AbstractPartition):
    """Device k holds one class only: the classes in turn, each shared out evenly among its devices."""

    min_images: int = 1

    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the samples that each device holds, ascending.

        Raises:
            DataError: a class has no device, or too few samples for its devices.
        """
        classes = np.unique(labels)
        if num_devices < len(classes):
            raise DataError(
                f"{len(classes)} classes cannot go to {num_devices} devices one by one; "
                "take as many devices as classes, or another partition"
            )
        parts: list[Int[np.ndarray, _]] = [np.empty(0, dtype=np.int64)] * num_devices
        for index, label in enumerate(classes):
            members = rng.permutation(np.flatnonzero(labels == label))
            devices = range(index, num_devices, len(classes))
            require_enough(len(members), len(devices), self.min_images)
            for device, part in zip(devices, np.array_split(members, len(devices)), strict=True):
                parts[device] = np.sort(part)
        return parts


@final
@dataclass(frozen=True)
class ShardPartition(AbstractPartition):
    """Samples sorted by class and cut into equal shards, of which each device draws so many.

    With two shards a device sees two classes at most, or three where a shard lies on a border. Source:
    [McMahan17].
    """

    shards_per_device: int = 2
    min_images: int = 1

    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the samples that each device holds, ascending."""
        require_enough(len(labels), num_devices, max(self.min_images, self.shards_per_device))
        mixed = rng.permutation(len(labels))
        ordered = mixed[np.argsort(labels[mixed], kind="stable")]
        shards = np.array_split(ordered, num_devices * self.shards_per_device)
        hands = rng.permutation(len(shards)).reshape(num_devices, self.shards_per_device)
        return [np.sort(np.concatenate([shards[shard] for shard in hand])) for hand in hands]


@final
@dataclass(frozen=True)
class UnequalPartition(AbstractPartition):
    r"""A random split into shares that are log-normal: :math:`n_k \propto e^{\sigma z_k}`, z standard normal.

    Each device first gets `min_images`; the rest is shared out in these proportions. A spread of 0 is the
    even split.
    """

    spread: float
    min_images: int = 1

    def split(
        self, labels: Int[np.ndarray, "M"], num_devices: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, "_"]]:
        """Positions of the samples that each device holds, ascending."""
        require_enough(len(labels), num_devices, self.min_images)
        shares = np.exp(self.spread * rng.standard_normal(num_devices))
        spare = len(labels) - num_devices * self.min_images
        sizes = self.min_images + np.array(share_out(spare, shares.tolist()))
        return [np.sort(part) for part in np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])]


def split_by_task(
    labels: Sequence[Int[np.ndarray, "_"]],
    devices_per_task: int,
    rule: AbstractPartition,
    streams: RandomStreams,
) -> list[Int[np.ndarray, "_"]]:
    """Each task's samples on devices of its own, by a rule within the task; devices count task by task.

    `labels` has the classes of each task's samples; positions count within the task.

    Raises:
        DataError: a task has too few samples.
    """
    parts = []
    for task, own in enumerate(labels):
        try:
            parts += rule.split(own, devices_per_task, streams.generator("data-partition", task))
        except DataError as error:
            raise DataError(f"task {task}: {error}") from error
    return parts
