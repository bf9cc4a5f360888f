"""The samples of a cohort that trains, and the batches of a chunk of it, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from airsim.learn.batches import PaddedBatch, gather
from airsim.learn.data.tasks import Split
from airsim.learn.schedules import LocalSchedule, step_table
from airsim.randomness import RandomStreams

# Samples gathered at once, for one step at least: 4 steps of W1 in tests/benchmarks.
ROWS_GATHERED = 256


@dataclass(frozen=True)
class LocalData:
    """Samples of the devices that train and, where known, the frozen products of their lowest adapted layer.

    `devices` are the numbers by which sample orders are drawn; with `products`, samples are the inputs of
    that layer (`AbstractBaseModel.below`).
    """

    devices: Sequence[int]
    splits: Sequence[Split]
    products: Sequence[Tensor] | None = None

    def take(self, places: Sequence[int]) -> "LocalData":
        """The part of some devices."""
        products = None if self.products is None else [self.products[place] for place in places]
        splits = [self.splits[place] for place in places]
        return LocalData([self.devices[place] for place in places], splits, products)

    def batches(
        self, schedule: LocalSchedule, streams: RandomStreams, round_index: int
    ) -> Iterator[PaddedBatch]:
        """One batch per step, of devices that take equally many; without the leading axis for one alone."""
        generators = [streams.generator("local-batches", round_index, device) for device in self.devices]
        table = step_table(schedule, [split.size for split in self.splits], generators)
        x, y, product = self._joined()
        # Token numbers have no type for weights.
        dtype = x.dtype if x.is_floating_point() else table.weights.dtype
        rows, weights = table.rows.to(x.device), table.weights.to(x.device, dtype)
        if len(self.devices) == 1:
            rows, weights = rows.squeeze(1), weights.squeeze(1)
        together = max(1, ROWS_GATHERED // rows[0].numel())
        for chosen, weighing in zip(rows.split(together), weights.split(together), strict=True):
            yield from gather(Split(x, y), chosen, product, weighing).unbind()

    def _joined(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """All samples one after the other: those of a single device are not copied."""
        if len(self.splits) == 1:
            (split,) = self.splits
            return split.x, split.y, None if self.products is None else self.products[0]
        product = None if self.products is None else torch.cat(list(self.products))
        return (
            torch.cat([split.x for split in self.splits]),
            torch.cat([split.y for split in self.splits]),
            product,
        )
