"""One round, from local gradients to the next adapters. The first file to read.

    gradients -> statistics -> design -> normalise -> superpose -> combine -> de-normalise -> merge

Learning and radio meet here and nowhere else: to the radio a gradient is a plain row of numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from airsim.des import Airtime
from airsim.errors import DivergenceError
from airsim.learn.adapters import DualAdapters, payload_size
from airsim.learn.cohort import Cohort, GradientChunk
from airsim.learn.data.tasks import Split
from airsim.learn.evaluation import Evaluation, evaluate
from airsim.learn.models.mlp import FrozenMLP
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.radio import PayloadStatistics, ScalarGainAir, denormalise, normalise, num_symbols, uplink_s
from airsim.randomness import RandomStreams
from airsim.uplink import AbstractUplink, Federation, PreparedUplink

# Gradients of a round are kept between statistics and upload up to this size; a larger cohort is passed
# twice. Either way gives the same bits.
PAYLOAD_BYTES_KEPT = 256 * 2**20
BYTES_PER_ENTRY = 4

Metrics = dict[str, float | int | str | list[float]]


@dataclass(frozen=True)
class Learner:
    """The learning side: frozen base, the devices' data, the update rule and the test sets."""

    model: FrozenMLP
    cohort: Cohort
    operator: AirPFedLoRA
    tests: tuple[Split, ...]
    scale: float

    def gradients(
        self, adapters: DualAdapters, round_index: int, participants: Sequence[int]
    ) -> Iterator[GradientChunk]:
        """The participants' payloads, chunk by chunk; the same bits at every pass."""
        return self.cohort.gradient_chunks(self.model, adapters, self.scale, round_index, participants)

    def evaluate(self, adapters: DualAdapters) -> Evaluation:
        """Accuracy and loss of every task's model on its held-out images."""
        return evaluate(self.model, adapters, self.scale, self.tests)


@dataclass(frozen=True)
class OpenRound:
    """What is known of a round between its design and its upload."""

    round_index: int
    chunks: Callable[[], Iterator[GradientChunk]]
    shared: PayloadStatistics
    personal: PayloadStatistics
    losses: Float[np.ndarray, "K"]
    uplink: PreparedUplink


@dataclass(frozen=True)
class StreamOutcome:
    """What one receiver made of its stream: the aggregate, the ideal one, and the errors between them.

    Both errors are per real entry and in units of the reference deviation: `mse_correlated` is the
    expectation over the receiver noise given the symbols' measured correlation, `mse_realised` what this
    round's noise made of it.
    """

    aggregate: Float[Tensor, "D"]
    ideal: Float[Tensor, "D"]
    mse_correlated: float
    mse_realised: float


class RoundEngine:
    """The numbers behind the clock: holds the adapters and moves them one round at a time."""

    def __init__(
        self,
        learner: Learner,
        uplink: AbstractUplink,
        federation: Federation,
        adapters: DualAdapters,
        bandwidth_hz: float,
        streams: RandomStreams,
    ) -> None:
        self.learner = learner
        self.uplink = uplink
        self.federation = federation
        self.adapters = adapters
        self.metrics: Metrics = {}
        self._bandwidth_hz = bandwidth_hz
        self._streams = streams
        self._open: OpenRound | None = None

    def begin(self, round_index: int, participants: Sequence[int]) -> Airtime:
        """First meeting with the clock: gradients, statistics, design; returns how long the upload takes."""
        chunks = self._chunks(round_index, participants)
        shared, personal, losses = self._statistics(chunks)
        if not all(np.isfinite(s.scale).all() for s in (shared, personal)):
            raise DivergenceError(
                f"round {round_index}: gradients are no longer finite. The learning rate is too large for "
                "these adapters: lower learning.learning_rate or learning.adapters.scale"
            )
        prepared = self.uplink.prepare(round_index, shared, personal)
        self._open = OpenRound(round_index, chunks, shared, personal, losses, prepared)
        return Airtime(
            shared_s=uplink_s(self.federation.symbols_shared, self._bandwidth_hz),
            personal_s=uplink_s(self.federation.symbols_personal, self._bandwidth_hz),
            shared_energy_j=prepared.shared_energy_j.tolist(),
            personal_energy_j=prepared.personal_energy_j.tolist(),
        )

    def finish(self, round_index: int) -> None:
        """Second meeting with the clock: superpose what was sent, merge it, and note how well it went."""
        opened = self._open
        if opened is None or opened.round_index != round_index:
            raise RuntimeError(f"round {round_index} is finished before it has begun")
        outcomes = self._transmit(opened)
        shared, *personal = (outcome.aggregate for outcome in outcomes)
        self.adapters = self.learner.operator.apply(self.adapters, shared, torch.stack(personal))
        self.metrics = self._measure(opened, outcomes)
        self._open = None

    def evaluate(self) -> Metrics:
        """Accuracy and loss of every task's model on its held-out images."""
        evaluation = self.learner.evaluate(self.adapters)
        return {
            "accuracy": evaluation.accuracy,
            "accuracy_worst_task": evaluation.accuracy_worst_task,
            "accuracy_per_task": list(evaluation.accuracy_per_task),
            "test_loss": evaluation.loss,
        }

    def _chunks(self, round_index: int, participants: Sequence[int]) -> Callable[[], Iterator[GradientChunk]]:
        adapters = self.adapters

        def passed() -> Iterator[GradientChunk]:
            return self.learner.gradients(adapters, round_index, participants)

        entries = payload_size(adapters.shared) + payload_size(adapters.personal)
        if BYTES_PER_ENTRY * entries * len(participants) > PAYLOAD_BYTES_KEPT:
            return passed
        kept = tuple(passed())
        return lambda: iter(kept)

    def _statistics(
        self, chunks: Callable[[], Iterator[GradientChunk]]
    ) -> tuple[PayloadStatistics, PayloadStatistics, Float[np.ndarray, "K"]]:
        rule = self.uplink.normalisation
        seen = [
            (rule.statistics(chunk.shared), rule.statistics(chunk.personal), chunk.losses.double().numpy())
            for chunk in chunks()
        ]
        shared, personal, losses = zip(*seen, strict=True)
        return _joined(shared), _joined(personal), np.concatenate(losses)

    def _transmit(self, opened: OpenRound) -> list[StreamOutcome]:
        """Pass the cohort once more: every stream's superposition and its ideal sum grow chunk by chunk."""
        prepared = opened.uplink
        ideals = tuple(ScalarGainAir(_as_gains(target), 0.0) for target in prepared.targets)
        sent: list[Tensor | None] = [None] * len(prepared.airs)
        wanted: list[Tensor | None] = [None] * len(prepared.airs)
        for chunk in opened.chunks():
            for stream, (positions, rows) in self._shares(chunk).items():
                symbols = self._symbols(opened, chunk, stream, positions)
                sent[stream] = _plus(sent[stream], prepared.airs[stream].superpose(symbols, rows))
                wanted[stream] = _plus(wanted[stream], ideals[stream].superpose(symbols, rows))
        return [
            self._receive(opened, stream, superposed, ideal)
            for stream, (superposed, ideal) in enumerate(zip(sent, wanted, strict=True))
            if superposed is not None and ideal is not None
        ]

    def _shares(self, chunk: GradientChunk) -> dict[int, tuple[list[int], list[int]]]:
        """For each stream that hears this chunk: positions in the chunk and rows in the stream."""
        shares = {0: (list(range(len(chunk.devices))), list(chunk.devices))}
        for task, own in enumerate(self.federation.members):
            positions = [place for place, device in enumerate(chunk.devices) if chunk.tasks[place] == task]
            if positions:
                shares[task + 1] = (positions, [own.index(chunk.devices[place]) for place in positions])
        return shares

    def _symbols(self, opened: OpenRound, chunk: GradientChunk, stream: int, positions: list[int]) -> Tensor:
        payload, statistics = (
            (chunk.shared, opened.shared) if stream == 0 else (chunk.personal, opened.personal)
        )
        devices = [chunk.devices[place] for place in positions]
        offset = torch.from_numpy(statistics.offset[devices]).to(payload.dtype)
        scale = torch.from_numpy(statistics.scale[devices]).to(payload.dtype)
        return normalise(payload[positions], offset, scale)

    def _receive(self, opened: OpenRound, stream: int, superposed: Tensor, ideal: Tensor) -> StreamOutcome:
        prepared = opened.uplink
        statistics = opened.shared if stream == 0 else opened.personal
        entries = payload_size(self.adapters.shared if stream == 0 else self.adapters.personal)
        members = list(self.federation.rows[stream])
        offset = float(self.federation.aggregation_weights[stream] @ statistics.offset[members])
        rng = self._streams.generator("receiver-noise", opened.round_index, stream)
        clean = prepared.airs[stream].receive(superposed)
        noisy = clean + prepared.airs[stream].receiver_noise(num_symbols(entries), rng)
        return StreamOutcome(
            aggregate=denormalise(noisy, prepared.reference_std, offset, entries),
            ideal=denormalise(ideal, prepared.reference_std, offset, entries),
            mse_correlated=_mean_square(clean - ideal, entries) + prepared.noise_mse[stream],
            mse_realised=_mean_square(noisy - ideal, entries),
        )

    def _measure(self, opened: OpenRound, outcomes: list[StreamOutcome]) -> Metrics:
        weights = self.federation.stream_weights
        sizes = self.federation.data_sizes
        correlated = [outcome.mse_correlated for outcome in outcomes]
        realised = [outcome.mse_realised for outcome in outcomes]
        task_weights = self.federation.stream_weights[1:] / max(weights[1:].sum(), 1e-300)
        return {
            "loss": float(sizes @ opened.losses / sizes.sum()),
            **opened.uplink.report,
            "pi_correlated": float(weights @ correlated),
            "pi_realised": float(weights @ realised),
            "mse_correlated": correlated,
            "mse_realised": realised,
            "relative_error_shared": _relative_error(outcomes[:1], np.ones(1)),
            "relative_error_personal": _relative_error(outcomes[1:], task_weights),
            "reference_std": opened.uplink.reference_std,
        }


def _joined(parts: Sequence[PayloadStatistics]) -> PayloadStatistics:
    return PayloadStatistics(
        np.concatenate([part.offset for part in parts]), np.concatenate([part.scale for part in parts])
    )


def _as_gains(target: Float[np.ndarray, "K"]) -> Tensor:
    return torch.from_numpy(np.asarray(target, dtype=np.complex64))


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _mean_square(symbols: Tensor, num_entries: int) -> float:
    """Mean square of the real entries that these symbols carry, padding left out."""
    entries = denormalise(symbols, 1.0, 0.0, num_entries).double()
    return float(entries.square().sum()) / max(num_entries, 1)


def _relative_error(outcomes: Sequence[StreamOutcome], weights: Float[np.ndarray, "streams"]) -> float:
    """Weighted squared error of the aggregates over the weighted squared norm of the ideal ones."""
    error = sum(
        w * float((o.aggregate - o.ideal).double().square().sum())
        for w, o in zip(weights, outcomes, strict=True)
    )
    signal = sum(w * float(o.ideal.double().square().sum()) for w, o in zip(weights, outcomes, strict=True))
    return error / signal if signal > 0 else 0.0
