r"""Every payload on its own: devices send to the base station one after the other.

For methods whose server needs every upload. A device is active in its own share of the round only, so its
energy allows it the power :math:`\min(P^{pk}, \bar P\,S / S_k)` there. Each reception is a problem of one
device, with the same weight of misalignment against noise as a superposed one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import optim
from airsim.channel import ChannelModel
from airsim.radio import (
    AbstractNormalisation,
    PayloadStatistics,
    ScalarGainAir,
    denormalise,
    normalise,
    num_symbols,
    transmit_energy_j,
)
from airsim.randomness import RandomStreams
from airsim.uplink import RadioBudget


@dataclass(frozen=True)
class SingleReception:
    """One device's end-to-end gain, wanted gain and noise after combining, and its transmit scalar."""

    gain: complex
    wanted: float
    noise_std: float
    transmit_scalar: complex


@dataclass(frozen=True)
class OrthogonalUplink:
    """The base station's channel, or none where every payload arrives without error."""

    normalisation: AbstractNormalisation
    budget: RadioBudget
    misalignment_weight: float
    channel: ChannelModel | None

    def among(self, devices: Sequence[int]) -> "OrthogonalUplink":
        """The same uplink for some of its devices."""
        channel = None if self.channel is None else self.channel.among(devices)
        return replace(self, channel=channel)

    def receptions(
        self, block: int, statistics: PayloadStatistics, symbols: Int[np.ndarray, "K"]
    ) -> list[SingleReception]:
        """What the channel of one coherence block lets through of each device."""
        if self.channel is None:
            return [SingleReception(complex(scale), scale, 0.0, 0j) for scale in statistics.scale.tolist()]
        power_w = self._powers_w(symbols)
        (used,) = self.normalisation.symbol_power(statistics.scale)
        state = self.channel.realise(block)
        problem = optim.AirCompProblem(
            channel=(np.sqrt(used)[:, None] * state.estimate)[:, None, :],
            target_gains=statistics.scale[:, None],
            power_budget_w=power_w[:, None],
            noise_power_w=self.budget.noise_power_w,
            misalignment_weight=self.misalignment_weight,
        )
        design = optim.solve(problem).design
        radiated = np.sqrt(used) * design.transmit_scalars[:, 0]
        beams = design.receive_beamformer
        gains = (state.response * beams.conj()).sum(axis=-1) * radiated
        noise = np.sqrt(self.budget.noise_power_w) * np.linalg.norm(beams, axis=-1)
        rows = zip(gains, statistics.scale, noise, radiated, strict=True)
        return [SingleReception(complex(g), float(w), float(n), complex(b)) for g, w, n, b in rows]

    def _powers_w(self, symbols: Int[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
        active = np.maximum(symbols, 1) / max(int(symbols.sum()), 1)
        return np.minimum(self.budget.peak_power_w, self.budget.average_power_w / active)


@dataclass(frozen=True)
class OrthogonalUpload:
    """All participants' payloads between design and reception; entries that are not sent stay zero."""

    devices: Sequence[int]
    payload: Float[Tensor, "K D"]
    sent: Bool[Tensor, "K D"]
    statistics: PayloadStatistics
    receptions: Sequence[SingleReception]
    weights: Float[np.ndarray, "K"]

    @property
    def symbols(self) -> Int[np.ndarray, "K"]:
        """Complex symbols that each device sends."""
        return symbols_of(self.sent)

    def energies_j(self, bandwidth_hz: float) -> list[float]:
        """Joules that each device radiates in its share."""
        return [
            float(transmit_energy_j(np.array([one.transmit_scalar]), int(count), bandwidth_hz)[0])
            for one, count in zip(self.receptions, self.symbols, strict=True)
        ]

    @property
    def reference_std(self) -> float:
        """Weighted root mean square of the deviations, as for superposed payloads."""
        return float(np.sqrt(self.weights @ self.statistics.scale**2))

    def predicted(self) -> float:
        """Expected squared error of the weighted mean, for uncorrelated payloads, in squared references."""
        errors = [abs(one.gain - one.wanted) ** 2 + one.noise_std**2 for one in self.receptions]
        return float(self.weights**2 @ np.array(errors)) / max(self.reference_std**2, 1e-300)

    def correlated(self) -> float:
        """The same for these very payloads: an expectation over the noise alone.

        An entry that a device does not send meets none of that device's noise.
        """
        weights = torch.from_numpy(self.weights).to(self.payload.device)
        noise = torch.tensor([one.noise_std**2 for one in self.receptions], dtype=weights.dtype)
        error = weights @ (self._rows(lambda row: None) - self.payload).double()
        heard = (weights.square() * noise.to(weights.device)) @ self.sent.double()
        entries = max(self.payload.shape[1], 1)
        return float(error.square().sum() + heard.sum()) / entries / max(self.reference_std**2, 1e-300)

    def received(self, streams: RandomStreams, round_index: int) -> Float[Tensor, "K D"]:
        """What the base station makes of every payload."""
        return self._rows(lambda row: streams.generator("receiver-noise", round_index, self.devices[row]))

    def _rows(self, noise: Callable[[int], np.random.Generator | None]) -> Float[Tensor, "K D"]:
        """What arrives of every payload, without noise where a row has no generator."""
        rows = torch.zeros_like(self.payload)
        for row, entries in enumerate(self.sent.sum(dim=1).tolist()):
            if entries:
                rows[row, self.sent[row]] = self._one(row, entries, noise(row))
        return rows

    def _one(self, row: int, entries: int, rng: np.random.Generator | None) -> Float[Tensor, "d"]:
        one, own = self.receptions[row], self.sent[row]
        scale = torch.tensor([self.statistics.scale[row]]).to(self.payload)
        offset = torch.tensor([self.statistics.offset[row]]).to(self.payload)
        symbols = normalise(self.payload[row : row + 1, own], offset, scale)
        air = ScalarGainAir(torch.tensor([one.gain], dtype=torch.complex64), one.noise_std)
        arrived = air.superpose(symbols, [0])
        if rng is not None:
            arrived = arrived + air.receiver_noise(symbols.shape[1], rng).to(symbols.device)
        return denormalise(arrived, 1.0, float(self.statistics.offset[row]), entries)


def symbols_of(sent: Bool[Tensor, "K D"]) -> Int[np.ndarray, "K"]:
    """Complex symbols for the entries that each device really sends."""
    return np.array([num_symbols(count) for count in sent.sum(dim=1).tolist()])


def statistics_of(
    rule: AbstractNormalisation, payload: Float[Tensor, "K D"], sent: Bool[Tensor, "K D"]
) -> PayloadStatistics:
    """Statistics over the entries that each device sends."""
    rows = [rule.statistics(payload[row : row + 1, own]) for row, own in enumerate(sent)]
    return PayloadStatistics(
        np.concatenate([row.offset for row in rows]), np.concatenate([row.scale for row in rows])
    )
