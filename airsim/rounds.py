"""One round, from local gradients to the next adapters. The first file to read.

    gradients -> statistics -> design -> normalise -> superpose -> combine -> de-normalise -> merge

Learning and radio meet here and in `transmission.py`, and nowhere else: to the radio a gradient is a
plain row of numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from airsim.assessment import Assessment, Metrics
from airsim.des import Airtime
from airsim.errors import DivergenceError
from airsim.federation import Federation
from airsim.learn.adapters import DualAdapters, payload_size
from airsim.learn.assessment import DualModels
from airsim.learn.cohort import Cohort, GradientChunk
from airsim.learn.cohort_pass import CohortPass
from airsim.learn.models.base import AbstractBaseModel, AbstractModel
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.server_step import HeardGradients
from airsim.learn.sample_pool import SamplePool, sample_pool
from airsim.participation import Present
from airsim.payloads import AbstractPayloads, PassedPayloads, PayloadRows
from airsim.radio import uplink_s
from airsim.randomness import RandomStreams
from airsim.transmission import StreamOutcome, Upload, relative_error, transmit
from airsim.uplink import AbstractUplink

# Gradients of a round that are larger than this are not kept between statistics and upload: where the model
# offers it, only moments and sums are computed, in two passes, which is also half as fast again for 1000
# devices. The bits differ between the two.
PAYLOAD_BYTES_SUMMED = 32 * 2**20
# Of other models every row is computed twice from this size on, which gives the same bits.
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

    def cohort_pass(
        self, adapters: DualAdapters, round_index: int, participants: Sequence[int]
    ) -> CohortPass | None:
        """The participants' sums and moments without their payloads; None for a model without traces."""
        if self.pool is None or adapters.has_trained_heads:
            return None
        devices = tuple(self.cohort.in_order(participants))
        model, pool = self.pool
        return CohortPass(self.cohort, model, pool, adapters, self.scale, round_index, devices)

    @cached_property
    def pool(self) -> tuple[AbstractBaseModel, SamplePool] | None:
        """The model if it leaves traces, and all samples, ready for its lowest layer."""
        model = self.model
        if not isinstance(model, AbstractBaseModel):
            return None
        return model, sample_pool(model, self.cohort.data.devices, model.layer_names)


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
        payloads = self._payloads(round_index, present)
        statistics = payloads.statistics(self.uplink.normalisation)
        shared, personal, losses = statistics
        if not (np.isfinite(shared.scale).all() and np.isfinite(personal.scale).all()):
            raise DivergenceError(
                f"round {round_index}: gradients are no longer finite; training has diverged. "
                "Lower learning.learning_rate or learning.adapters.scale"
            )
        prepared = present.uplink(self.uplink).prepare(round_index, shared, personal)
        entries = (payload_size(self.adapters.shared), payload_size(self.adapters.personal))
        self._upload = Upload(round_index, payloads, statistics, entries, prepared)
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

    def _payloads(self, round_index: int, present: Present) -> AbstractPayloads:
        adapters, participants = self.adapters, present.devices

        def passed() -> Iterator[GradientChunk]:
            return present.renumbered(self.learner.gradients(adapters, round_index, participants))

        entries = payload_size(adapters.shared) + payload_size(adapters.personal)
        payload_bytes = BYTES_PER_ENTRY * entries * len(participants)
        if payload_bytes > PAYLOAD_BYTES_SUMMED:
            cohort_pass = self.learner.cohort_pass(adapters, round_index, participants)
            if cohort_pass is not None:
                return PassedPayloads(cohort_pass, PayloadRows(passed))
        if payload_bytes > PAYLOAD_BYTES_KEPT:
            return PayloadRows(passed)
        kept = tuple(passed())
        return PayloadRows(lambda: iter(kept))

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
