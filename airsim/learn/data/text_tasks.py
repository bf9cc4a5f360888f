"""Texts as a federation: every source is a task, with devices of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from airsim.errors import DataError, blaming
from airsim.learn.data.partition import AbstractPartition
from airsim.learn.data.skew import split_by_task
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.data.tokens import TokenisedSource
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class TextPlan:
    """How many texts of each task are used (None takes all), and how its devices share them."""

    devices_per_task: int
    training: int | None
    test: int | None
    partition: AbstractPartition


def build_text_federation(
    sources: Sequence[TokenisedSource], plan: TextPlan, streams: RandomStreams
) -> FederatedData:
    """One task per source; the public split is empty, for the base was trained by others.

    Raises:
        DataError: a task has too few texts.
    """
    with blaming("learning.data.training_texts"):
        training = [
            _choose(
                source.train,
                plan.training,
                f"{source.name}: training",
                streams.generator("text-training", task),
            )
            for task, source in enumerate(sources)
        ]
    with blaming("learning.data.test_texts"):
        tests = [
            _choose(source.test, plan.test, f"{source.name}: test", streams.generator("text-test", task))
            for task, source in enumerate(sources)
        ]
    labels = [split.y.numpy() for split in training]
    owned = split_by_task(labels, plan.devices_per_task, plan.partition, streams)
    task_of_device = tuple(task for task in range(len(sources)) for _ in range(plan.devices_per_task))
    devices = tuple(
        _rows(training[task], torch.from_numpy(part))
        for task, part in zip(task_of_device, owned, strict=True)
    )
    longest = max(split.x.shape[1] for split in (*devices, *tests))
    return FederatedData(
        public=Split(torch.full((0, longest), -1), torch.zeros(0, dtype=torch.int64)),
        devices=tuple(_widen(split, longest) for split in devices),
        task_of_device=task_of_device,
        tests=tuple(_widen(split, longest) for split in tests),
        num_classes=max(source.num_classes for source in sources),
        checksum="-".join(source.checksum for source in sources),
    )


def _choose(split: Split, wanted: int | None, what: str, rng: np.random.Generator) -> Split:
    """Texts from the start of a random order, so that more of them include the fewer."""
    number = split.size if wanted is None else wanted
    if not 1 <= number <= split.size:
        raise DataError(f"{what} texts: {number} wanted, {split.size} there; ask for fewer")
    return _rows(split, torch.from_numpy(rng.permutation(split.size)[:number]))


def _rows(split: Split, chosen: torch.Tensor) -> Split:
    return Split(split.x[chosen], split.y[chosen])


def _widen(split: Split, length: int) -> Split:
    return Split(pad(split.x, (0, length - split.x.shape[1]), value=-1), split.y)
