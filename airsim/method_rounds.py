"""One round of any method that averages what devices have trained; `rounds.py` is the one of gradients.

    train -> encode -> statistics -> design -> superpose (or one by one) -> decode -> broadcast

As there, learning and radio meet over plain rows of numbers. All devices are heard by the base station.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from airsim.assessment import Assessment, Metrics
from airsim.des import Airtime
from airsim.errors import DivergenceError
from airsim.federation import Federation
from airsim.learn.cohort import GradientChunk
from airsim.learn.federated.assessed import FederatedModels
from airsim.learn.federated.base import AbstractLearner, LocalRound
from airsim.learn.operators.base import OnAir
from airsim.orthogonal import OrthogonalUplink, OrthogonalUpload, statistics_of, symbols_of
from airsim.participation import Present
from airsim.payloads import PayloadRows, doubles
from airsim.radio import num_symbols, uplink_s
from airsim.randomness import RandomStreams
from airsim.transmission import Upload, relative_error, transmit
from airsim.uplink import AbstractUplink


@dataclass(frozen=True)
class Routes:
    """The ways to the base station: all at once, and one after the other."""

    superposed: AbstractUplink
    orthogonal: OrthogonalUplink


class MethodEngine:
    """The numbers behind the clock: holds the federation's state and moves it one round at a time."""

    def __init__(
        self,
        learner: AbstractLearner[Any],
        routes: Routes,
        federation: Federation,
        bandwidth_hz: float,
        streams: RandomStreams,
        assessment: Assessment,
    ) -> None:
        self.learner = learner
        self._assessment = assessment
        self.state = learner.start()
        self.metrics: Metrics = {}
        self.channel_uses = 0
        self._routes, self._federation = routes, federation
        self._bandwidth_hz, self._streams = bandwidth_hz, streams
        self._local: LocalRound[Any] | None = None
        self._upload: Upload | OrthogonalUpload | None = None
        self._present = Present(federation, tuple(range(len(federation.data_sizes))))

    def begin(self, round_index: int, participants: Sequence[int]) -> Airtime:
        """First meeting with the clock: training, statistics, design; returns how long the upload takes."""
        present = self._present = Present(self._federation, tuple(participants))
        local = self._local = self.learner.train(self.state, round_index, present.devices)
        if not bool(torch.isfinite(local.sent.payload).all()):
            raise DivergenceError(
                f"round {round_index}: what devices send is no longer finite; training has diverged. "
                "Lower learning.learning_rate or learning.adapters.scale"
            )
        sizes = present.federation.data_sizes
        loss = float(sizes @ doubles(local.losses) / sizes.sum())
        self.metrics = {"loss": loss, **present.metrics}
        if self.learner.operator.on_air is OnAir.NONLINEAR:
            return self._begin_one_by_one(round_index, local)
        return self._begin_superposed(round_index, local)

    def finish(self, round_index: int) -> None:
        """Second meeting with the clock: what arrived, and what the server makes of it."""
        upload, local = self._upload, self._local
        if upload is None or local is None or local.view.index != round_index:
            raise RuntimeError(f"round {round_index} is finished before it has begun")
        if isinstance(upload, OrthogonalUpload):
            received = self._received_one_by_one(upload, round_index)
        else:
            received = self._received_sum(upload, local)
        self.state = self.learner.merge(self.state, local, received)
        self._upload = self._local = None

    @property
    def broadcast_entries(self) -> int:
        """Real numbers of the broadcast that the next round begins with."""
        return self.learner.broadcast_entries(self.state)

    def rank(self, device: int) -> int:
        """Of the adapter that this device trains in the next round; 0 where whole models are trained."""
        return self.learner.rank(self.state, device)

    def control_reals(self, device: int) -> int:
        """Numbers that this device tells on the control channel in the next round: payload and method."""
        told = self._routes.superposed.normalisation.reals
        return told + self.learner.operator.control_reals(self.state.server, device)

    def evaluate(self) -> Metrics:
        """Accuracy and loss of the devices' models on held-out samples."""
        return self._assessment.metrics(FederatedModels(self.learner, self.state))

    def named_tensors(self) -> dict[str, Tensor]:
        """What was learned, for a file."""
        return self.learner.named_tensors(self.state)

    def _begin_superposed(self, round_index: int, local: LocalRound[Any]) -> Airtime:
        payload = local.sent.payload.float()
        entries, devices = payload.shape[1], len(payload)
        federation = replace(
            self._present.federation,
            data_sizes=doubles(local.weights),
            symbols_shared=num_symbols(entries),
        )
        chunk = GradientChunk(
            tuple(range(devices)),
            tuple(task for task, own in _by_device(federation)),
            local.losses,
            payload,
            payload.new_zeros(devices, 0),
        )

        def chunks() -> Iterator[GradientChunk]:
            yield chunk

        uplink = replace(self._present.uplink(self._routes.superposed), federation=federation)  # type: ignore[type-var]
        payloads = PayloadRows(chunks)
        statistics = payloads.statistics(uplink.normalisation)
        prepared = uplink.prepare(round_index, statistics.shared, statistics.personal)
        self._upload = Upload(round_index, payloads, statistics, (entries, 0), prepared)
        self._round_federation = federation
        self.metrics |= self._present.report(prepared)
        return self._airtime(federation.symbols_shared, prepared.shared_energy_j.tolist())

    def _begin_one_by_one(self, round_index: int, local: LocalRound[Any]) -> Airtime:
        present, sent = self._present, local.sent
        uplink = self._routes.orthogonal
        if not present.is_everybody:
            uplink = uplink.among(present.devices)
        payload, symbols = sent.payload.float(), symbols_of(sent.sent)
        statistics = statistics_of(uplink.normalisation, payload, sent.sent)
        receptions = uplink.receptions(round_index, statistics, symbols)
        weights = doubles(local.weights)
        upload = self._upload = OrthogonalUpload(
            present.devices, payload, sent.sent, statistics, receptions, weights
        )
        predicted = upload.predicted()
        self.metrics |= {"pi_predicted": predicted, "mse_predicted": self._of_all_streams(predicted)}
        return self._airtime(int(symbols.sum()), upload.energies_j(self._bandwidth_hz))

    def _airtime(self, symbols: int, energy_j: list[float]) -> Airtime:
        self.channel_uses += symbols
        return Airtime(
            shared_s=uplink_s(symbols, self._bandwidth_hz),
            personal_s=0.0,
            shared_energy_j=self._present.of_all_devices(energy_j),
            personal_energy_j=self._present.of_all_devices([0.0] * len(energy_j)),
        )

    def _received_sum(self, upload: Upload, local: LocalRound[Any]) -> Float[Tensor, "D"]:
        outcome = transmit(upload, self._round_federation, self._streams)[0]
        self.metrics |= {
            **self._errors(outcome.mse_correlated, outcome.mse_realised),
            "relative_error_shared": relative_error([outcome], np.ones(1)),
            "reference_std": upload.uplink.reference_std,
        }
        return outcome.aggregate.to(local.sent.payload.dtype)

    def _received_one_by_one(self, upload: OrthogonalUpload, round_index: int) -> Float[Tensor, "K D"]:
        received = upload.received(self._streams, round_index)
        weights = torch.from_numpy(upload.weights).to(received.device)
        error, ideal = (weights @ rows.double() for rows in (received - upload.payload, upload.payload))
        entries, reference = max(ideal.shape[0], 1), max(upload.reference_std, 1e-300)
        realised = float(error.square().sum()) / entries / reference**2
        self.metrics |= {
            **self._errors(upload.correlated(), realised),
            "relative_error_shared": float(error.square().sum() / ideal.square().sum().clamp(min=1e-300)),
            "reference_std": upload.reference_std,
        }
        return received

    def _errors(self, correlated: float, realised: float) -> Metrics:
        """Errors in the words of a round of gradients; there is one stream, to the base station."""
        return {
            "pi_correlated": correlated,
            "pi_realised": realised,
            "mse_correlated": self._of_all_streams(correlated),
            "mse_realised": self._of_all_streams(realised),
        }

    def _of_all_streams(self, error: float) -> list[float]:
        """The base station's error, and 0 for every edge server, which hears nothing."""
        return [error] + [0.0] * len(self._federation.members)


def _by_device(federation: Federation) -> list[tuple[int, int]]:
    """Task and number of every device, in the order of the devices."""
    pairs = [(task, device) for task, own in enumerate(federation.members) for device in own]
    return sorted(pairs, key=lambda pair: pair[1])
