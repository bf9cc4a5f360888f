"""One round, from local gradients to the next adapters. The first file to read.

    gradients -> statistics -> design -> normalise -> superpose -> combine -> de-normalise -> merge

Learning and radio meet here and in `transmission.py`, and nowhere else: to the radio a gradient is a
plain row of numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from airsim.assessment import Assessment, Metrics
from airsim.des import Airtime
from airsim.errors import DivergenceError
from airsim.learn.adapters import DualAdapters, payload_size
from airsim.learn.assessment import DualModels
from airsim.learn.cohort import Cohort, GradientChunk
from airsim.learn.models.base import AbstractModel
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.server_step import HeardGradients
from airsim.participation import Present
from airsim.radio import PayloadStatistics, uplink_s
from airsim.randomness import RandomStreams
from airsim.transmission import Chunks, StreamOutcome, Upload, relative_error, transmit
from airsim.uplink import AbstractUplink, Federation

# Gradients of a round are kept between statistics and upload up to this size; a larger cohort is passed
# twice. Either way gives the same bits.
PAYLOAD_BYTES_KEPT = 256 * 2**20
BYTES_PER_ENTRY = 4


@dataclass(frozen=True)
class Learner:
    """The learning side: frozen base, the devices' data, the update rule, and what is measured."""

    model: AbstractModel
    cohort: Cohort
    operator: AirPFedLoRA
    scale: float
    assessment: Assessment

    def gradients(
        self, adapters: DualAdapters, round_index: int, participants: Sequence[int]
    ) -> Iterator[GradientChunk]:
        """The participants' payloads, chunk by chunk; the same bits at every pass."""
        return self.cohort.gradient_chunks(self.model, adapters, self.scale, round_index, participants)


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
        self.memory = learner.operator.start(adapters)
        self.metrics: Metrics = {}
        self.channel_uses = 0
        self._bandwidth_hz = bandwidth_hz
        self._streams = streams
        self._upload: Upload | None = None
        self._present = Present(federation, tuple(range(len(federation.data_sizes))))

    def begin(self, round_index: int, participants: Sequence[int]) -> Airtime:
        """First meeting with the clock: gradients, statistics, design; returns how long the upload takes."""
        present = self._present = Present(self.federation, tuple(participants))
        chunks = present.renumbered(self._chunks(round_index, participants))
        shared, personal, losses = self._statistics(chunks)
        if not (np.isfinite(shared.scale).all() and np.isfinite(personal.scale).all()):
            raise DivergenceError(
                f"round {round_index}: gradients are no longer finite; training has diverged. "
                "Lower learning.learning_rate or learning.adapters.scale"
            )
        prepared = present.uplink(self.uplink).prepare(round_index, shared, personal)
        entries = (payload_size(self.adapters.shared), payload_size(self.adapters.personal))
        self._upload = Upload(round_index, chunks, shared, personal, entries, prepared)
        sizes, federation = present.federation.data_sizes, present.federation
        self.channel_uses += federation.symbols_shared + len(federation.members) * federation.symbols_personal
        self.metrics = {
            "loss": float(sizes @ losses / sizes.sum()),
            **present.metrics,
            **present.report(prepared),
        }
        return Airtime(
            shared_s=uplink_s(self.federation.symbols_shared, self._bandwidth_hz),
            personal_s=uplink_s(self.federation.symbols_personal, self._bandwidth_hz),
            shared_energy_j=present.of_all_devices(prepared.shared_energy_j),
            personal_energy_j=present.of_all_devices(prepared.personal_energy_j),
        )

    def finish(self, round_index: int) -> None:
        """Second meeting with the clock: superpose what was sent, merge it, and note how well it went."""
        upload = self._upload
        if upload is None or upload.round_index != round_index:
            raise RuntimeError(f"round {round_index} is finished before it has begun")
        outcomes = transmit(upload, self._present.federation, self._streams)
        shared, *personal = (outcome.aggregate for outcome in outcomes)
        heard = HeardGradients(shared, torch.stack(personal), self._present.tasks)
        self.adapters, self.memory = self.learner.operator.step(self.adapters, self.memory, heard)
        self.metrics |= self._errors(outcomes)
        self.metrics["reference_std"] = upload.uplink.reference_std
        self._upload = None

    def evaluate(self) -> Metrics:
        """Accuracy and loss of the models on held-out samples."""
        learner = self.learner
        models = DualModels(learner.model, self.adapters, learner.scale, learner.cohort.data)
        return learner.assessment.metrics(models)

    def named_tensors(self) -> dict[str, Tensor]:
        """What was learned, for a file."""
        return self.adapters.named_tensors()

    def _chunks(self, round_index: int, participants: Sequence[int]) -> Chunks:
        adapters = self.adapters

        def passed() -> Iterator[GradientChunk]:
            return self.learner.gradients(adapters, round_index, participants)

        entries = payload_size(adapters.shared) + payload_size(adapters.personal)
        if BYTES_PER_ENTRY * entries * len(participants) > PAYLOAD_BYTES_KEPT:
            return passed
        kept = tuple(passed())
        return lambda: iter(kept)

    def _statistics(
        self, chunks: Chunks
    ) -> tuple[PayloadStatistics, PayloadStatistics, Float[np.ndarray, "K"]]:
        rule = self.uplink.normalisation
        seen = [
            (rule.statistics(chunk.shared), rule.statistics(chunk.personal), chunk.losses.double().numpy())
            for chunk in chunks()
        ]
        shared, personal, losses = zip(*seen, strict=True)
        return _joined(shared), _joined(personal), np.concatenate(losses)

    def _errors(self, outcomes: Sequence[StreamOutcome]) -> Metrics:
        """Errors as the design counts them (Pi_t and its streams), and relative to the ideal aggregates."""
        present, federation = self._present, self._present.federation
        weights = federation.stream_weights
        correlated = [outcome.mse_correlated for outcome in outcomes]
        realised = [outcome.mse_realised for outcome in outcomes]
        return {
            "pi_correlated": float(weights @ correlated),
            "pi_realised": float(weights @ realised),
            "mse_correlated": present.of_all_streams(correlated),
            "mse_realised": present.of_all_streams(realised),
            "relative_error_shared": relative_error(outcomes[:1], np.ones(1)),
            "relative_error_personal": relative_error(outcomes[1:], federation.task_weights),
        }


def _joined(parts: Sequence[PayloadStatistics]) -> PayloadStatistics:
    return PayloadStatistics(
        np.concatenate([part.offset for part in parts]), np.concatenate([part.scale for part in parts])
    )
