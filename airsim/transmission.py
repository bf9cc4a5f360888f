"""One round's upload: what every receiver hears, what it should have heard, and the error between them.

The sums over devices are linear in the symbols, so `payloads.py` adds received and ideal sum chunk by chunk,
and no more payloads are in memory than one chunk has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from torch import Tensor

from airsim.federation import Federation
from airsim.payloads import AbstractPayloads, RoundStatistics, StreamSums
from airsim.radio import denormalise
from airsim.randomness import RandomStreams
from airsim.uplink import PreparedUplink


@dataclass(frozen=True)
class Upload:
    """A round between its design and its merge: payloads, everybody's statistics, and the air."""

    round_index: int
    payloads: AbstractPayloads
    statistics: RoundStatistics
    entries: tuple[int, int]
    uplink: PreparedUplink

    def entries_of(self, stream: int) -> int:
        """Real entries of the payload that this stream carries."""
        return self.entries[min(stream, 1)]


@dataclass(frozen=True)
class StreamOutcome:
    """What one receiver made of its stream.

    Both errors are per real entry and in units of the reference deviation: `mse_correlated` is the
    expectation over the receiver noise given the symbols' measured correlation,
    ``delta^T Gamma delta + sigma^2 |m|^2`` with ``delta_k = m^H h_k b_k - w_k``; `mse_realised` is what
    this round's noise made of it.
    """

    aggregate: Float[Tensor, "D"]
    ideal: Float[Tensor, "D"]
    mse_correlated: float
    mse_realised: float


def transmit(upload: Upload, federation: Federation, streams: RandomStreams) -> list[StreamOutcome]:
    """Send a round's payloads over its air: the base station's outcome, then every edge server's."""
    sums = upload.payloads.sums(upload.statistics, upload.uplink, federation)
    return [_receive(upload, federation, stream, heard, streams) for stream, heard in enumerate(sums)]


def _receive(
    upload: Upload,
    federation: Federation,
    stream: int,
    sums: StreamSums,
    streams: RandomStreams,
) -> StreamOutcome:
    superposed, ideal = sums
    air, entries = upload.uplink.airs[stream], upload.entries_of(stream)
    members = list(federation.rows[stream])
    mean = float(federation.aggregation_weights[stream] @ upload.statistics.of_stream(stream).offset[members])
    rng = streams.generator("receiver-noise", upload.round_index, federation.receiver_of(stream))
    clean = air.receive(superposed)
    noisy = clean + air.receiver_noise(ideal.shape[0], rng).to(clean.device)
    reference_std = upload.uplink.reference_std
    return StreamOutcome(
        aggregate=denormalise(noisy, reference_std, mean, entries),
        ideal=denormalise(ideal, reference_std, mean, entries),
        mse_correlated=_mean_square(clean - ideal, entries) + upload.uplink.noise_mse[stream],
        mse_realised=_mean_square(noisy - ideal, entries),
    )


def relative_error(outcomes: Sequence[StreamOutcome], weights: Float[np.ndarray, "streams"]) -> float:
    """Weighted squared error of the aggregates over the weighted squared norm of the ideal ones."""
    error = signal = 0.0
    for weight, outcome in zip(weights, outcomes, strict=True):
        error += weight * float((outcome.aggregate - outcome.ideal).double().square().sum())
        signal += weight * float(outcome.ideal.double().square().sum())
    return float(error / signal) if signal > 0 else 0.0


def _mean_square(symbols: Complex[Tensor, "S"], num_entries: int) -> float:
    """Mean square of the real entries that these symbols carry, padding left out."""
    entries = denormalise(symbols, 1.0, 0.0, num_entries).double()
    return float(entries.square().sum()) / max(num_entries, 1)
