"""Turn one image source into tasks that share a shift of the camera but disagree about two labels."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64, Num
from torch import Tensor

from airsim.errors import DataError
from airsim.learn.data.partition import AbstractPartition, share_out
from airsim.learn.data.sources import ImageSource
from airsim.randomness import RandomStreams

Camera = Literal["quarter-turn", "upright"]
QUARTER_TURNS = {"upright": 0, "quarter-turn": 1}


@dataclass(frozen=True)
class Split:
    """Samples as rows, with their classes: pixels, or token numbers filled up with -1."""

    x: Num[Tensor, "M F"]
    y: Int[Tensor, "M"]

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.x.shape[0]

    def to(self, device: torch.device) -> "Split":
        """The same samples on a device."""
        return Split(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class TaskSpec:
    """A task's label code (two classes exchanged, or None) and its share of the training images."""

    swap: tuple[int, int] | None = None
    share: float = 1.0


@dataclass(frozen=True)
class SplitSizes:
    """How many images are public, for training and for testing; None takes all that are left."""

    public: int
    training: int | None
    test: int | None


@dataclass(frozen=True)
class FederationPlan:
    """Who gets which images, and seen through which camera."""

    tasks: tuple[TaskSpec, ...]
    devices_per_task: int
    sizes: SplitSizes
    camera: Camera
    partition: AbstractPartition


@dataclass(frozen=True)
class FederatedData:
    """The public split that pretrains the base, every device's own data, and a test set for every task.

    Devices are numbered task by task.
    """

    public: Split
    devices: tuple[Split, ...]
    task_of_device: tuple[int, ...]
    tests: tuple[Split, ...]
    num_classes: int
    checksum: str

    @property
    def num_features(self) -> int:
        """Pixels of an image."""
        return self.public.x.shape[1]

    @property
    def device(self) -> torch.device:
        """Where devices' samples and test sets are, and so where torch computes."""
        return self.tests[0].x.device

    def to(self, device: torch.device) -> "FederatedData":
        """The same data there, but for the public split: bases are trained on the CPU, the same for all."""
        devices, tests = (tuple(split.to(device) for split in part) for part in (self.devices, self.tests))
        return replace(self, devices=devices, tests=tests)


def build_federated_data(source: ImageSource, plan: FederationPlan, streams: RandomStreams) -> FederatedData:
    """Share a source out: public images as they are, those of tasks through the camera and in their codes.

    Every training image is in one task and on one device only. All tasks are tested on the same originals,
    which no device holds. Public images meet neither the camera nor the label codes.

    Raises:
        DataError: the source or a task has too few images.
    """
    public, training, held_out = _choose_images(source, plan.sizes, streams)
    sizes = share_out(len(training), [task.share for task in plan.tasks])
    portions = np.split(streams.generator("data-tasks").permutation(training), np.cumsum(sizes)[:-1])
    devices = [
        split
        for task, portion in enumerate(portions)
        for split in _device_splits(source, plan, portion, task, streams.generator("data-partition", task))
    ]
    codes = [torch.from_numpy(label_code(source.num_classes, task.swap)) for task in plan.tasks]
    test = make_split(*held_out, plan.camera)
    return FederatedData(
        public=make_split(source.images[public], source.labels[public], "upright"),
        devices=tuple(devices),
        task_of_device=tuple(task for task in range(len(plan.tasks)) for _ in range(plan.devices_per_task)),
        tests=tuple(Split(test.x, code[test.y]) for code in codes),
        num_classes=source.num_classes,
        checksum=source.checksum,
    )


def label_code(num_classes: int, swap: tuple[int, int] | None) -> Int64[np.ndarray, "C"]:
    """The label that a task gives to each class: the class itself, save for the two that are exchanged."""
    codes = np.arange(num_classes, dtype=np.int64)
    if swap is not None:
        codes[list(swap)] = codes[list(reversed(swap))]
    return codes


def make_split(images: Float32[np.ndarray, "M H H"], labels: Int64[np.ndarray, "M"], camera: Camera) -> Split:
    """Images as rows of pixels, seen through a camera that stands upright or was mounted a quarter turn."""
    seen = np.rot90(images, QUARTER_TURNS[camera], axes=(1, 2)).reshape(len(images), -1)
    return Split(torch.from_numpy(np.ascontiguousarray(seen)), torch.from_numpy(labels.copy()))


def _device_splits(
    source: ImageSource,
    plan: FederationPlan,
    portion: Int[np.ndarray, "M"],
    task: int,
    rng: np.random.Generator,
) -> list[Split]:
    """The data of one task's devices, with the task's labels."""
    codes = label_code(source.num_classes, plan.tasks[task].swap)
    try:
        parts = plan.partition.split(source.labels[portion], plan.devices_per_task, rng)
    except DataError as error:
        raise DataError(f"task {task}: {error}") from error
    owned = [portion[part] for part in parts]
    return [make_split(source.images[own], codes[source.labels[own]], plan.camera) for own in owned]


def _choose_images(
    source: ImageSource, sizes: SplitSizes, streams: RandomStreams
) -> tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"], tuple[np.ndarray, np.ndarray]]:
    """Positions of the public and the training images, and the held-out test images with their classes.

    Public images stand at the start of one random order, those for training follow. A pool without a test set
    of its own gives the test images from the end, so that another number for training changes neither.
    """
    order = streams.generator("data-order").permutation(len(source.labels))
    if source.test_images is not None and source.test_labels is not None:
        num_test = _take(sizes.test, len(source.test_labels), f"{source.name}: test")
        chosen = streams.generator("data-test-order").permutation(len(source.test_labels))[:num_test]
        held_out = source.test_images[chosen], source.test_labels[chosen]
        num_pool = len(order)
    else:
        left = len(order) - sizes.public - (sizes.training or 0)
        num_test = _take(sizes.test, left, f"{source.name}: test")
        num_pool = len(order) - num_test
        held_out = source.images[order[num_pool:]], source.labels[order[num_pool:]]
    num_training = _take(sizes.training, num_pool - sizes.public, f"{source.name}: training")
    return order[: sizes.public], order[sizes.public : sizes.public + num_training], held_out


def _take(wanted: int | None, available: int, what: str) -> int:
    """The number wanted, or all that are left; at least one."""
    number = available if wanted is None else wanted
    if not 1 <= number <= available:
        raise DataError(
            f"{what} images: {number} wanted, {max(available, 0)} left; ask for fewer here or elsewhere"
        )
    return number
