"""Several local steps of a whole cohort: side by side where adapters are small, else device by device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.corrections import AbstractCorrection
from airsim.learn.local_data import LocalData
from airsim.learn.local_state import OptimiserState, fresh_state, stacked, working_copy
from airsim.learn.lora import AbstractLinear
from airsim.learn.models.base import AbstractBaseModel, AbstractModel
from airsim.learn.operators.payload import Live, LiveLayers
from airsim.learn.optimisers import AbstractGradient, AbstractOptimiser, DenseGradient, FactorGradient
from airsim.learn.parallel import in_order
from airsim.learn.schedules import LocalSchedule
from airsim.randomness import RandomStreams

# Adapters and slots that are trained side by side: one device of W1 in tests/benchmarks, 19 of W2. Measured
# on one core: W2 takes 477 ms alone, 194 with 13, 168 with 26, 179 with 52 devices; W1 185 ms alone and 177
# with five, which is less than what two cores lose when ten devices make few chunks.
TRAINED_BYTES_PER_CHUNK = 3 * 2**19

# Gradients of A, and of B as it is laid out.
GradientPair = tuple[AbstractGradient, AbstractGradient]
_FACTORS = (Live.A, Live.B)


@dataclass(frozen=True)
class TrainedCohort:
    """Adapters after local training, one per device, with mean losses over the steps and optimiser state."""

    losses: Float[Tensor, "K"]
    layers: Mapping[str, LoRAFactors]
    state: OptimiserState


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
        known = fresh_state(self.optimiser, layers, len(data.devices)) if state is None else state

        def train(places: list[int]) -> TrainedCohort:
            own = data.take(places)
            received = {
                name: factors.take(places) if factors.a.ndim == 3 else factors.expand(len(places))
                for name, factors in layers.items()
            }
            chunk = _Chunk(self, own.devices, received, known.take(places))
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


class _Chunk:
    """Devices in the middle of their training; factors and slots change in place."""

    def __init__(
        self,
        training: LocalTraining,
        devices: Sequence[int],
        received: Mapping[str, LoRAFactors],
        state: OptimiserState,
    ) -> None:
        self._training, self._devices, self._received = training, devices, received
        model = training.model
        self._single = len(devices) == 1 and isinstance(model, AbstractBaseModel)
        self._counts = state.counts  # changed in place, as factors and slots are
        self._losses: list[Tensor] = []
        self._factors = {name: working_copy(factors, self._single) for name, factors in received.items()}
        self._slots = {
            name: tuple(working_copy(slot, self._single) for slot in kept)
            for name, kept in state.slots.items()
        }
        # The layers hold the factors themselves, so they follow every step.
        self._traced: tuple[AbstractBaseModel, Mapping[str, AbstractLinear]] | None = None
        if isinstance(model, AbstractBaseModel):
            adapt = model.device_linears if self._single else model.linears
            self._traced = model, adapt(self._factors, training.scale)
        # Views made once, as every step needs them: A with its slots, B transposed with its slots, and one
        # step counter per device, shaped to go along with its factors.
        self._places = {
            name: (
                (factors.a, tuple(slot.a for slot in self._slots[name])),
                (factors.b.mT, tuple(slot.b.mT for slot in self._slots[name])),
            )
            for name, factors in self._factors.items()
        }
        self._count = self._counts.view(-1, 1) if self._single else self._counts.view(-1, 1, 1)
        self._live = dict.fromkeys(received, Live.BOTH) if training.live is None else training.live

    def step(self, batch: PaddedBatch) -> None:
        """One step of every device on its batch."""
        losses, gradients = self._gradients(batch)
        self._losses.append(losses)
        self._counts.add_(1)
        for name, pair in gradients.items():
            self._update(name, pair)

    def _gradients(self, batch: PaddedBatch) -> tuple[Tensor, dict[str, GradientPair]]:
        """Losses, and gradients of ``A`` and of ``B`` transposed, their corrections included."""
        gradients: dict[str, GradientPair] = {}
        if self._traced is None:
            whole = self._training.model.device_gradients(
                self._factors, self._training.scale, batch.stacked()
            )
            for name, factors in whole.layers.items():
                a, b = self._correction(name)
                entries_a = factors.a if a is None else factors.a + a
                entries_b = factors.b.mT if b is None else factors.b.mT + b
                gradients[name] = DenseGradient(entries_a), DenseGradient(entries_b)
            return whole.losses, gradients
        model, linears = self._traced
        passed = model.backpropagate(batch, linears)
        for name, trace in passed.traces.items():
            a, b = self._correction(name)
            gradients[name] = (
                FactorGradient(trace.projected.mT, trace.x, a),
                FactorGradient(trace.inner.mT, trace.d, b),
            )
        return passed.losses, gradients

    def _update(self, name: str, gradients: GradientPair) -> None:
        for factor, gradient, (own, slots) in zip(_FACTORS, gradients, self._places[name], strict=True):
            if factor in self._live[name]:
                self._training.optimiser.step(own, gradient, slots, self._count)

    def _correction(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        rule = self._training.correction
        if rule is None:
            return None, None
        now = stacked(self._factors[name], self._single)
        term = rule.of(name, self._devices, now, self._received[name])
        return (term.a.squeeze(0), term.b.mT.squeeze(0)) if self._single else (term.a, term.b.mT)

    def result(self) -> TrainedCohort:
        """Where the devices have arrived."""
        layers = {name: stacked(factors, self._single) for name, factors in self._factors.items()}
        slots = {
            name: tuple(stacked(slot, self._single) for slot in kept) for name, kept in self._slots.items()
        }
        losses = torch.stack(self._losses).mean(dim=0).view(-1)
        return TrainedCohort(losses, layers, OptimiserState(self._counts, slots))


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
