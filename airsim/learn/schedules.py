"""Which samples a device uses in which of its local steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LocalSchedule:
    """Mini-batches without replacement, epoch after epoch, each in an order of its own.

    Give either whole epochs or a number of steps. The last batch of an epoch is smaller where the batch does
    not divide the device's samples.
    """

    batch: Literal["full"] | int
    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"epochs = {self.epochs}, steps = {self.steps}: give exactly one of them")
        for field in ("batch", "epochs", "steps"):
            value = getattr(self, field)
            if value not in (None, "full") and value < 1:
                raise ValueError(f"{field} = {value}: must be at least 1")

    def batch_of(self, size: int) -> int:
        """Samples in a whole batch of a device with this many samples."""
        return size if self.batch == "full" else min(self.batch, size)

    def steps_of(self, size: int) -> int:
        """Local steps of a device with this many samples."""
        if self.steps is not None:
            return self.steps
        return (self.epochs or 0) * math.ceil(size / self.batch_of(size))

    def rows(self, size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """The samples of every step."""
        width, needed = self.batch_of(size), self.steps_of(size)
        chosen: list[np.ndarray] = []
        for _ in count():
            order = rng.permutation(size)
            chosen += [order[start : start + width] for start in range(0, size, width)]
            if len(chosen) >= needed:
                break
        return chosen[:needed]


@dataclass(frozen=True)
class StepTable:
    """Rows into the joined samples of some devices, step by step, and each row's weight in its mean loss."""

    rows: Int[Tensor, "T K B"]
    weights: Float[Tensor, "T K B"]


def step_table(
    schedule: LocalSchedule, sizes: Sequence[int], generators: Sequence[np.random.Generator]
) -> StepTable:
    """The steps of devices that take equally many; rows that fill up a smaller batch weigh nothing."""
    starts = np.cumsum([0, *sizes[:-1]])
    per_device = [schedule.rows(size, rng) for size, rng in zip(sizes, generators, strict=True)]
    shape = (len(per_device[0]), len(sizes), max(len(rows) for steps in per_device for rows in steps))
    table, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    table += starts[:, None]
    for device, steps in enumerate(per_device):
        for step, rows in enumerate(steps):
            table[step, device, : len(rows)] = starts[device] + rows
            weights[step, device, : len(rows)] = 1.0 / len(rows)
    return StepTable(torch.from_numpy(table), torch.from_numpy(weights))
