"""From statistics to an air: what one round's uplink will do to each stream.

Stream 0 is the s-phase, all devices to the base station; stream n + 1 is the p-phase of task n to its
edge server. Here the channel, the optimiser and the radio meet.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

import optim
from airsim.channel import ChannelModel
from airsim.federation import Federation
from airsim.radio import (
    AbstractAir,
    AbstractNormalisation,
    AntennaLevelAir,
    PayloadStatistics,
    ScalarGainAir,
    transmit_energy_j,
)


@dataclass(frozen=True)
class PreparedUplink:
    """The air of one round.

    `airs[i]` carries stream i, whose ideal receiver would compute `targets[i] @ symbols`; `noise_mse[i]`
    is the receiver noise after combining, per real entry. All are in units of `reference_std`.
    `report` is what the design says of itself.
    """

    airs: tuple[AbstractAir, ...]
    targets: tuple[Float[np.ndarray, "_"], ...]
    noise_mse: tuple[float, ...]
    reference_std: float
    shared_energy_j: Float[np.ndarray, "K"]
    personal_energy_j: Float[np.ndarray, "K"]
    report: Mapping[str, float | str | list[float]]


class AbstractUplink(abc.ABC):
    """A way to bring the devices' payloads together; `normalisation` makes symbols of them."""

    normalisation: AbstractNormalisation

    @abc.abstractmethod
    def prepare(self, block: int, shared: PayloadStatistics, personal: PayloadStatistics) -> PreparedUplink:
        """The uplink of one coherence block, given everybody's statistics."""

    @abc.abstractmethod
    def among(self, federation: Federation, rows: Sequence[Sequence[int]]) -> "AbstractUplink":
        """The same uplink for a part of its devices; `rows` are their places in each stream that is left."""


@final
@dataclass(frozen=True)
class ErrorFreeUplink(AbstractUplink):
    """The ideal reference: exact sums, no transmit energy; it takes the channel uses of the analog upload."""

    federation: Federation
    normalisation: AbstractNormalisation

    def prepare(self, block: int, shared: PayloadStatistics, personal: PayloadStatistics) -> PreparedUplink:
        scales = [shared.scale] + [personal.scale[list(own)] for own in self.federation.members]
        weights = self.federation.aggregation_weights
        targets = tuple(own * scale for own, scale in zip(weights, scales, strict=True))
        nothing = np.zeros(len(self.federation.data_sizes))
        silence = [0.0] * len(targets)
        return PreparedUplink(
            airs=tuple(ScalarGainAir(_single(target), 0.0) for target in targets),
            targets=targets,
            noise_mse=tuple(silence),
            reference_std=1.0,
            shared_energy_j=nothing,
            personal_energy_j=nothing,
            report={"pi_predicted": 0.0, "mse_predicted": silence},
        )

    def among(self, federation: Federation, rows: Sequence[Sequence[int]]) -> "ErrorFreeUplink":
        return replace(self, federation=federation)


@dataclass(frozen=True)
class RadioBudget:
    """Powers of every device, noise of every receive antenna, and the bandwidth that all share."""

    average_power_w: float
    peak_power_w: float
    noise_power_w: float
    bandwidth_hz: float


@dataclass(frozen=True)
class TransceiverDesigner:
    """Which solver designs, how hard it tries, and how much misalignment counts against noise.

    The misalignment weight kappa: 1 minimises the Pi_t of [Sun, Eq. 41], and a large weight approaches
    uniform forcing, whose aggregate is unbiased and noisier.
    """

    method: str
    starts: int
    max_iterations: int
    misalignment_weight: float

    def design(self, problem: optim.CombinedProblem) -> optim.CombinedSolution:
        """Transmit scalars and receive beamformers for one block."""
        seen = replace(problem, misalignment_weight=self.misalignment_weight)
        return optim.solve(seen, self.method, starts=self.starts, max_iterations=self.max_iterations)


AirBuilder = Callable[
    [
        Complex[np.ndarray, "K N"],
        Complex[np.ndarray, "K"],
        Complex[np.ndarray, "N"],
        float,
    ],
    AbstractAir,
]


def antenna_level(
    channel: Complex[np.ndarray, "K N"],
    transmit_scalars: Complex[np.ndarray, "K"],
    receive_beamformer: Complex[np.ndarray, "N"],
    noise_power_w: float,
) -> AbstractAir:
    """Every antenna of the receiver: the reference."""
    return AntennaLevelAir(
        _single(channel), _single(transmit_scalars), _single(receive_beamformer), noise_power_w
    )


def scalar_gains(
    channel: Complex[np.ndarray, "K N"],
    transmit_scalars: Complex[np.ndarray, "K"],
    receive_beamformer: Complex[np.ndarray, "N"],
    noise_power_w: float,
) -> AbstractAir:
    """One gain ``m^H h_k b_k`` per device: the same sum, computed after combining."""
    gains = (channel @ receive_beamformer.conj()) * transmit_scalars
    noise_std = np.sqrt(noise_power_w) * np.linalg.norm(receive_beamformer)
    return ScalarGainAir(_single(gains), float(noise_std))


@final
@dataclass(frozen=True)
class AirCompUplink(AbstractUplink):
    """Over-the-air computation: designed on the estimated channel, sent over the real one."""

    federation: Federation
    normalisation: AbstractNormalisation
    channels: Sequence[ChannelModel]
    budget: RadioBudget
    designer: TransceiverDesigner
    air: AirBuilder

    def prepare(self, block: int, shared: PayloadStatistics, personal: PayloadStatistics) -> PreparedUplink:
        states = [channel.realise(block) for channel in self.channels]
        amplitudes = self._symbol_amplitudes(shared, personal)
        estimates = [a[:, None] * state.estimate for a, state in zip(amplitudes, states, strict=True)]
        problem = self._problem(estimates, shared, personal)
        solution = self.designer.design(problem)
        achieved = optim.evaluate(problem, solution.design)
        designs = solution.design.streams
        radiated = [a * design.transmit_scalars for a, design in zip(amplitudes, designs, strict=True)]
        noise_w = self.budget.noise_power_w
        shared_energy_j, personal_energy_j = self._energies_j(radiated)
        return PreparedUplink(
            airs=tuple(
                self.air(state.response, scalars, design.receive_beamformer, noise_w)
                for state, scalars, design in zip(states, radiated, designs, strict=True)
            ),
            targets=tuple(problem.targets),
            noise_mse=tuple(noise_w * float(np.linalg.norm(d.receive_beamformer)) ** 2 for d in designs),
            reference_std=float(problem.reference_std),
            shared_energy_j=shared_energy_j,
            personal_energy_j=personal_energy_j,
            report={
                "pi_predicted": float(achieved.pi),
                "mse_predicted": [float(mse) for mse in achieved.stream_mse],
                "design_gap": float(solution.gap),
                "design_status": solution.status.name,
            },
        )

    def among(self, federation: Federation, rows: Sequence[Sequence[int]]) -> "AirCompUplink":
        receivers = federation.receivers or range(len(rows))
        channels = [self.channels[receiver].among(own) for receiver, own in zip(receivers, rows, strict=True)]
        return replace(self, federation=federation, channels=channels)

    def _symbol_amplitudes(
        self, shared: PayloadStatistics, personal: PayloadStatistics
    ) -> list[Float[np.ndarray, "_"]]:
        # A symbol of power v over the channel h is a symbol of unit power over sqrt(v) h.
        shared_power, personal_power = self.normalisation.symbol_power(shared.scale, personal.scale)
        members = self.federation.members
        return [np.sqrt(shared_power)] + [np.sqrt(personal_power[list(own)]) for own in members]

    def _problem(
        self,
        channels: list[Complex[np.ndarray, "_ _"]],
        shared: PayloadStatistics,
        personal: PayloadStatistics,
    ) -> optim.CombinedProblem:
        return optim.CombinedProblem(
            base_station_channel=channels[0],
            edge_channels=channels[1:],
            members=[list(own) for own in self.federation.members],
            data_sizes=self.federation.data_sizes,
            rank_shared=None if self.federation.shares else self.federation.rank_shared,
            rank_personal=None if self.federation.shares else self.federation.rank_personal,
            shares=self.federation.shares,
            average_power_w=self.budget.average_power_w,
            peak_power_w=self.budget.peak_power_w,
            noise_power_w=self.budget.noise_power_w,
            payload_std=(shared.scale, personal.scale),
        )

    def _energies_j(
        self, radiated: list[Complex[np.ndarray, "_"]]
    ) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        personal = np.zeros(len(self.federation.data_sizes), dtype=complex)
        for own, scalars in zip(self.federation.members, radiated[1:], strict=True):
            personal[list(own)] = scalars
        bandwidth_hz = self.budget.bandwidth_hz
        return (
            transmit_energy_j(radiated[0], self.federation.symbols_shared, bandwidth_hz),
            transmit_energy_j(personal, self.federation.symbols_personal, bandwidth_hz),
        )


def _single(array: np.ndarray) -> Complex[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.complex64))
