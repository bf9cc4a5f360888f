"""The samples of all devices one after the other, with what lies below the lowest adapter computed once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from airsim.learn.batches import PaddedBatch, gather
from airsim.learn.data.tasks import Split
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.prefix import KnownPrefix, known_prefix


@dataclass(frozen=True)
class SamplePool:
    """Samples as the lowest adapted layer reads them; `starts[k]` is the first of device k."""

    known: KnownPrefix
    starts: tuple[int, ...]

    def batch(self, devices: Sequence[int], rows: Sequence[Int[Tensor, "_"]]) -> PaddedBatch:
        """The chosen rows of each device, filled up with rows that weigh nothing."""
        places = [chosen + self.starts[device] for device, chosen in zip(devices, rows, strict=True)]
        weights = [torch.full((len(chosen),), 1.0 / len(chosen)) for chosen in rows]
        table, weighing = (pad_sequence(column, batch_first=True) for column in (places, weights))
        samples = self.known.samples
        return gather(samples, table.to(samples.x.device), self.known.product, weighing.to(samples.x))


def sample_pool(model: AbstractBaseModel, splits: Sequence[Split], adapted: Collection[str]) -> SamplePool:
    """The pool of these devices, for adapters on the given layers."""
    starts = [0]
    for split in splits[:-1]:
        starts.append(starts[-1] + split.size)
    joined = Split(torch.cat([split.x for split in splits]), torch.cat([split.y for split in splits]))
    return SamplePool(known_prefix(model, joined, adapted), tuple(starts))
