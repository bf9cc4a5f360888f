"""One round's upload: what every receiver hears, what it should have heard, and the error between them.

The sums over devices are linear in the symbols, so a cohort passes in chunks: received and ideal sum
grow together, and memory does not grow with the number of devices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from airsim.learn.cohort import GradientChunk
from airsim.radio import PayloadStatistics, ScalarGainAir, denormalise, normalise
from airsim.randomness import RandomStreams
from airsim.uplink import Federation, PreparedUplink

Chunks = Callable[[], Iterator[GradientChunk]]


@dataclass(frozen=True)
class Upload:
    """A round between its design and its merge: payloads, everybody's statistics, and the air."""

    round_index: int
    chunks: Chunks
    shared: PayloadStatistics
    personal: PayloadStatistics
    entries: tuple[int, int]
    uplink: PreparedUplink

    def statistics_of(self, stream: int) -> PayloadStatistics:
        """Statistics of the payload that this stream carries."""
        return self.personal if stream else self.shared

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
    airs = upload.uplink.airs
    ideal_airs = [ScalarGainAir(_gains(target), 0.0) for target in upload.uplink.targets]
    sent: dict[int, Tensor] = {}
    wanted: dict[int, Tensor] = {}
    for chunk in upload.chunks():
        for stream, (places, rows) in _shares(chunk, federation).items():
            symbols = _symbols(upload, chunk, stream, places)
            _add(sent, stream, airs[stream].superpose(symbols, rows))
            _add(wanted, stream, ideal_airs[stream].superpose(symbols, rows))
    return [
        _receive(upload, federation, stream, (sent[stream], wanted[stream]), streams)
        for stream in range(len(airs))
    ]


def _shares(chunk: GradientChunk, federation: Federation) -> dict[int, tuple[list[int], list[int]]]:
    """For each stream that hears this chunk: places in the chunk, and rows in the stream."""
    shares = {0: (list(range(len(chunk.devices))), list(chunk.devices))}
    for task in sorted(set(chunk.tasks)):
        places = [place for place, own in enumerate(chunk.tasks) if own == task]
        shares[task + 1] = (places, [federation.row_in_task[chunk.devices[place]] for place in places])
    return shares


def _symbols(upload: Upload, chunk: GradientChunk, stream: int, places: list[int]) -> Complex[Tensor, "K S"]:
    payload = chunk.personal if stream else chunk.shared
    statistics = upload.statistics_of(stream)
    devices = [chunk.devices[place] for place in places]
    offset = torch.from_numpy(statistics.offset[devices]).to(payload.dtype)
    scale = torch.from_numpy(statistics.scale[devices]).to(payload.dtype)
    return normalise(payload[places], offset, scale)


def _receive(
    upload: Upload,
    federation: Federation,
    stream: int,
    sums: tuple[Tensor, Complex[Tensor, "S"]],
    streams: RandomStreams,
) -> StreamOutcome:
    superposed, ideal = sums
    air, entries = upload.uplink.airs[stream], upload.entries_of(stream)
    members = list(federation.rows[stream])
    mean = float(federation.aggregation_weights[stream] @ upload.statistics_of(stream).offset[members])
    rng = streams.generator("receiver-noise", upload.round_index, federation.receiver_of(stream))
    clean = air.receive(superposed)
    noisy = clean + air.receiver_noise(ideal.shape[0], rng)
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


def _add(totals: dict[int, Tensor], stream: int, part: Tensor) -> None:
    totals[stream] = totals[stream] + part if stream in totals else part


def _gains(target: Float[np.ndarray, "K"]) -> Complex[Tensor, "K"]:
    return torch.from_numpy(np.asarray(target, dtype=np.complex64))
