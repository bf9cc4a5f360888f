"""A round's payloads as the radio needs them: statistics first, and after the design the sums on the air.

Rows of numbers are kept, or computed twice; of very large cohorts only sums and moments ever exist.
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from airsim.federation import Federation
from airsim.learn.cohort import GradientChunk
from airsim.learn.cohort_pass import PERSONAL, SHARED, CohortPass
from airsim.radio import AbstractNormalisation, PayloadStatistics, ScalarGainAir, normalise, pack
from airsim.uplink import PreparedUplink


class RoundStatistics(NamedTuple):
    """Offsets and scales of both payloads of every device, and its loss."""

    shared: PayloadStatistics
    personal: PayloadStatistics
    losses: Float[np.ndarray, "K"]

    def of_stream(self, stream: int) -> PayloadStatistics:
        """Statistics of the payload that this stream carries."""
        return self.personal if stream else self.shared


class StreamSums(NamedTuple):
    """What a receiver's air carries of all its devices, noise not yet added, and what an ideal one would."""

    sent: Complex[Tensor, "... S"]
    wanted: Complex[Tensor, "S"]


class AbstractPayloads(abc.ABC):
    """What the participants of one round send."""

    @abc.abstractmethod
    def statistics(self, rule: AbstractNormalisation) -> RoundStatistics:
        """What the design needs to know."""

    @abc.abstractmethod
    def sums(
        self, statistics: RoundStatistics, uplink: PreparedUplink, federation: Federation
    ) -> list[StreamSums]:
        """Stream by stream, what the symbols of all devices add up to."""


@final
@dataclass(frozen=True)
class PayloadRows(AbstractPayloads):
    """Payloads row by row, in chunks that are the same in every pass."""

    chunks: Callable[[], Iterator[GradientChunk]]

    def statistics(self, rule: AbstractNormalisation) -> RoundStatistics:
        seen = [
            (rule.statistics(chunk.shared), rule.statistics(chunk.personal), doubles(chunk.losses))
            for chunk in self.chunks()
        ]
        shared, personal, losses = zip(*seen, strict=True)
        return RoundStatistics(_joined(shared), _joined(personal), np.concatenate(losses))

    def sums(
        self, statistics: RoundStatistics, uplink: PreparedUplink, federation: Federation
    ) -> list[StreamSums]:
        totals: dict[int, StreamSums] = {}
        for chunk in self.chunks():
            for stream, (places, rows) in _shares(chunk, federation).items():
                symbols = _symbols(statistics, chunk, stream, places)
                ideal = ScalarGainAir(_single(uplink.targets[stream]), 0.0)
                part = StreamSums(
                    uplink.airs[stream].superpose(symbols, rows), ideal.superpose(symbols, rows)
                )
                before = totals.get(stream)
                totals[stream] = (
                    part
                    if before is None
                    else StreamSums(before.sent + part.sent, before.wanted + part.wanted)
                )
        return [totals[stream] for stream in range(len(uplink.airs))]


@final
@dataclass(frozen=True)
class PassedPayloads(AbstractPayloads):
    """Payloads that never exist as rows: their weights follow from the gains, and the pass adds them up.

    Receivers that combine their antennas symbol by symbol need the rows, of which `rows` then takes care.
    """

    cohort_pass: CohortPass
    rows: PayloadRows

    def statistics(self, rule: AbstractNormalisation) -> RoundStatistics:
        moments = self.cohort_pass.moments()
        mean = doubles(moments.payloads.sums) / np.maximum(moments.payloads.entries, 1)
        square = doubles(moments.payloads.squares) / np.maximum(moments.payloads.entries, 1)
        shared, personal = (
            rule.of_moments(mean[:, stream], square[:, stream]) for stream in (SHARED, PERSONAL)
        )
        return RoundStatistics(shared, personal, doubles(moments.losses))

    def sums(
        self, statistics: RoundStatistics, uplink: PreparedUplink, federation: Federation
    ) -> list[StreamSums]:
        """``sum_k c_k (g_k - o_k) / s_k`` for the gains c: a sum of payloads, less one of offsets."""
        gains = [air.gains for air in uplink.airs if isinstance(air, ScalarGainAir)]
        if len(gains) < len(uplink.airs):
            return self.rows.sums(statistics, uplink, federation)
        weights = np.zeros((3, len(statistics.losses), 2))
        offsets = []
        for stream, gain in enumerate(gains):
            own, seen = list(federation.rows[stream]), statistics.of_stream(stream)
            scale = np.where(seen.scale[own] > 0, seen.scale[own], np.inf)
            sets = np.stack([gain.numpy().real, gain.numpy().imag, uplink.targets[stream]]) / scale
            weights[:, own, min(stream, 1)] = sets
            offsets.append(sets @ seen.offset[own])
        found = self.cohort_pass.sums(torch.from_numpy(weights).float())
        rows = [found.shared] + [found.personal[task] for task in sorted(found.personal)]
        return [_stream_sums(row, offset) for row, offset in zip(rows, offsets, strict=True)]


def _stream_sums(sums: Float[Tensor, "3 D"], offsets: Float[np.ndarray, "3"]) -> StreamSums:
    real, imaginary, wanted = pack(sums - torch.from_numpy(offsets).to(sums)[:, None])
    return StreamSums(real + 1j * imaginary, wanted)


def _shares(chunk: GradientChunk, federation: Federation) -> dict[int, tuple[list[int], list[int]]]:
    """For each stream that hears this chunk: places in the chunk, and rows in the stream."""
    shares = {0: (list(range(len(chunk.devices))), list(chunk.devices))}
    for task in sorted(set(chunk.tasks)):
        places = [place for place, own in enumerate(chunk.tasks) if own == task]
        shares[task + 1] = (places, [federation.row_in_task[chunk.devices[place]] for place in places])
    return shares


def _symbols(
    statistics: RoundStatistics, chunk: GradientChunk, stream: int, places: list[int]
) -> Complex[Tensor, "K S"]:
    payload, seen = (chunk.personal if stream else chunk.shared), statistics.of_stream(stream)
    devices = [chunk.devices[place] for place in places]
    offset = torch.from_numpy(seen.offset[devices]).to(payload)
    scale = torch.from_numpy(seen.scale[devices]).to(payload)
    return normalise(payload[places], offset, scale)


def doubles(numbers: Float[Tensor, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """A few numbers per device, which come to the design from wherever torch computes."""
    return numbers.double().cpu().numpy()


def _joined(parts: tuple[PayloadStatistics, ...]) -> PayloadStatistics:
    return PayloadStatistics(
        np.concatenate([part.offset for part in parts]), np.concatenate([part.scale for part in parts])
    )


def _single(target: Float[np.ndarray, "K"]) -> Complex[Tensor, "K"]:
    return torch.from_numpy(np.asarray(target, dtype=np.complex64))
