"""Several local steps of a whole cohort: side by side where adapters are small, else device by device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from airsim.learn.adapters import LoRAFactors
from airsim.learn.corrections import AbstractCorrection
from airsim.learn.local_chunk import LocalChunk
from airsim.learn.local_data import LocalData
from airsim.learn.local_state import OptimiserState, TrainedCohort, fresh_state
from airsim.learn.local_step import StepRule
from airsim.learn.models.base import AbstractModel
from airsim.learn.operators.payload import LiveLayers
from airsim.learn.optimisers import AbstractOptimiser
from airsim.learn.parallel import in_order
from airsim.learn.schedules import LocalSchedule
from airsim.randomness import RandomStreams

# Adapters and slots that are trained side by side: one device of W1 in tests/benchmarks, 19 of W2. Measured
# on one core: W2 takes 477 ms alone, 194 with 13, 168 with 26, 179 with 52 devices; W1 185 ms alone and 177
# with five, which is less than what two cores lose when ten devices make few chunks.
TRAINED_BYTES_PER_CHUNK = 3 * 2**19


@dataclass(frozen=True)
class LocalTraining:
    """How every device trains: model, schedule, optimiser, and a correction of its gradients if any.

    A model that leaves no traces, such as a transformer, gives the gradients of all devices in one pass.
    """

    model: AbstractModel
    scale: float
    schedule: LocalSchedule
    optimiser: AbstractOptimiser
    correction: AbstractCorrection | None = None
    live: LiveLayers | None = None  # the factors that are trained; all of them unless given

    def run(
        self,
        layers: Mapping[str, LoRAFactors],
        data: LocalData,
        draws: tuple[RandomStreams, int],
        state: OptimiserState | None = None,
        threads: int | None = None,
    ) -> TrainedCohort:
        """Train every device from the adapters it received, common or its own; in the order of `data`.

        `draws` are the streams of the run and the index of the round. Without a state every device starts its
        optimiser anew.
        """
        rule = StepRule(self.model, self.scale, self.optimiser, self.live)
        known = fresh_state(self.optimiser, layers, len(data.devices)) if state is None else state

        def train(places: list[int]) -> TrainedCohort:
            own = data.take(places)
            received = {
                name: factors.take(places) if factors.a.ndim == 3 else factors.expand(len(places))
                for name, factors in layers.items()
            }
            chunk = LocalChunk(rule, own.devices, received, known.take(places), self.correction)
            for batch in own.batches(self.schedule, *draws):
                chunk.step(batch)
            return chunk.result()

        chunks = self._chunks(layers, data)
        parts = list(in_order(train, chunks, threads, known.counts.device))
        return _joined(parts, [place for chunk in chunks for place in chunk])

    def _chunks(self, layers: Mapping[str, LoRAFactors], data: LocalData) -> list[list[int]]:
        """Devices that take equally many steps, as many at a time as fill the cache."""
        sizes = [split.size for split in data.splits]
        entries = sum(factors.size for factors in layers.values()) * (1 + self.optimiser.num_slots)
        width = max(1, TRAINED_BYTES_PER_CHUNK // (entries * next(iter(layers.values())).a.element_size()))
        steps = [self.schedule.steps_of(size) for size in sizes]
        order = sorted(range(len(sizes)), key=lambda place: (steps[place], sizes[place]))
        groups = [list(group) for _, group in groupby(order, key=steps.__getitem__)]
        return [group[start : start + width] for group in groups for start in range(0, len(group), width)]


def _joined(parts: Sequence[TrainedCohort], places: Sequence[int]) -> TrainedCohort:
    """All chunks side by side, back in the order of the cohort."""
    back = torch.tensor(places).argsort().to(parts[0].losses.device)

    def join(pieces: Sequence[LoRAFactors]) -> LoRAFactors:
        a, b = (torch.cat(column) for column in zip(*((f.a, f.b) for f in pieces), strict=True))
        return LoRAFactors(a.index_select(0, back), b.index_select(0, back))

    first = parts[0]
    layers = {name: join([part.layers[name] for part in parts]) for name in first.layers}
    slots = {
        name: tuple(join([part.state.slots[name][slot] for part in parts]) for slot in range(len(kept)))
        for name, kept in first.state.slots.items()
    }
    losses = torch.cat([part.losses for part in parts])[back]
    counts = torch.cat([part.state.counts for part in parts])[back]
    return TrainedCohort(losses, layers, OptimiserState(counts, slots))
