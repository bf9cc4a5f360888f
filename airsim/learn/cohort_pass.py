"""A cohort too large to keep its payloads: a pass for their statistics, and one for their weighted sums."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapters import DualAdapters, LoRAFactors, flatten
from airsim.learn.batches import PaddedBatch
from airsim.learn.cohort import Cohort
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.moments import PayloadMoments, StreamLayout
from airsim.learn.sample_pool import SamplePool
from airsim.learn.streaming import stream_weighted
from airsim.learn.weighted import WeightedGradients, WeightedPass

SHARED, PERSONAL = 0, 1


@dataclass(frozen=True)
class CohortMoments:
    """Losses and moments of the participants' payloads, by ascending device; streams shared and personal."""

    losses: Float[Tensor, "P"]
    payloads: PayloadMoments


@dataclass(frozen=True)
class CohortSums:
    """Weighted sums of the payloads, one row per set of weights; the personal ones task by task."""

    shared: Float[Tensor, "V Ds"]
    personal: dict[int, Float[Tensor, "V Dp"]]


@dataclass(frozen=True)
class CohortPass:
    """One round's gradients of the participants, computed anew whenever they are asked for.

    Payloads are those of :meth:`Cohort.gradient_chunks` but for rounding; none of them is kept.
    """

    cohort: Cohort
    model: AbstractBaseModel
    pool: SamplePool
    adapters: DualAdapters
    scale: float
    round_index: int
    participants: tuple[int, ...]

    def moments(self) -> CohortMoments:
        """Loss, mean and mean square of each participant's payloads."""
        nothing = torch.zeros(0, len(self.participants), 2, device=self._device)
        parts = list(self._by_task(nothing))
        order = torch.tensor([place for _, places, _ in parts for place in places]).argsort()
        back = order.to(self._device)
        seen = [part for _, _, part in parts]
        payloads = PayloadMoments(
            torch.cat([part.moments.sums for part in seen])[back],
            torch.cat([part.moments.squares for part in seen])[back],
            seen[0].moments.entries,
        )
        losses = torch.cat([part.losses for part in seen])[back]
        self.cohort.require_finite(self.participants, losses, self.round_index)
        return CohortMoments(losses, payloads)

    def sums(self, weights: Float[Tensor, "V P 2"]) -> CohortSums:
        """Sums of the payloads, weighed by `weights[..., SHARED]` and `weights[..., PERSONAL]`."""
        shared, personal = torch.zeros((), device=self._device), {}
        for task, _, part in self._by_task(weights.to(self._device)):
            own_shared, personal[task] = self._payloads(part)
            shared = shared + own_shared
        return CohortSums(shared, personal)

    def _by_task(self, weights: Float[Tensor, "V P 2"]) -> Iterator[tuple[int, list[int], WeightedGradients]]:
        """Task by task: places of its participants, similar batches side by side, and what they sum to."""
        tasks = self.cohort.data.task_of_device
        for task in sorted({tasks[device] for device in self.participants}):
            own = [place for place, device in enumerate(self.participants) if tasks[device] == task]
            own.sort(key=lambda place: len(self._rows[place]))
            layers = self.adapters.for_task(task)
            linears = self.model.merged_linears(layers, self.scale)
            one_pass = WeightedPass(self.model, linears, self._layout)
            most = len(self._rows[own[-1]])

            def draw(chunk: range, own: list[int] = own) -> PaddedBatch:
                places = own[chunk.start : chunk.stop]
                devices = [self.participants[place] for place in places]
                return self.pool.batch(devices, [self._rows[place] for place in places])

            yield task, own, stream_weighted(one_pass, draw, weights[:, own], most)

    @cached_property
    def _rows(self) -> list[Int[Tensor, "_"]]:
        return [self.cohort.rows(device, self.round_index) for device in self.participants]

    @property
    def _device(self) -> torch.device:
        return self.pool.known.samples.x.device

    @property
    def _layout(self) -> StreamLayout:
        shared, personal = self.adapters.shared, self.adapters.personal
        return StreamLayout({name: (factors.rank, personal[name].rank) for name, factors in shared.items()})

    def _payloads(self, part: WeightedGradients) -> tuple[Float[Tensor, "V Ds"], Float[Tensor, "V Dp"]]:
        halves: tuple[dict[str, LoRAFactors], dict[str, LoRAFactors]] = ({}, {})
        for name, factors in part.sums.items():
            halves[SHARED][name], halves[PERSONAL][name] = factors.split(self.adapters.shared[name].rank)
        return flatten(halves[SHARED]), flatten(halves[PERSONAL])
