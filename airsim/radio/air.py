r"""Two implementations of one medium: every antenna, or one scalar gain per device.

Both are linear in the symbols, so a cohort may pass in chunks whose contributions are added. Under
flat fading and white noise the scalar form is the same sum after the beamformer,
:math:`g_k = m^H h_k b_k` with noise :math:`\mathcal{CN}(0, \sigma^2 \|m\|^2)`, at a fraction of the work.
Symbols stay on their device, to which the few numbers of the design follow them.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from airsim.radio.aircomp import beamform, precode, superpose


class AbstractAir(abc.ABC):
    """The way of one stream, from symbols to the receiver's combined symbols, for one coherence block."""

    @abc.abstractmethod
    def superpose(self, symbols: Complex[Tensor, "K S"], rows: Sequence[int]) -> Complex[Tensor, "... S"]:
        """Noise-free contribution of some of the stream's devices, named by their rows."""

    @abc.abstractmethod
    def receive(self, superposed: Complex[Tensor, "... S"]) -> Complex[Tensor, "S"]:
        """The combined symbols without receiver noise."""

    @abc.abstractmethod
    def receiver_noise(self, num_symbols: int, rng: np.random.Generator) -> Complex[Tensor, "S"]:
        """A draw of the noise after combining, on the CPU, so that it is the same on any device."""


@final
@dataclass(frozen=True)
class ScalarGainAir(AbstractAir):
    """End-to-end gains, and the deviation of the noise after combining."""

    gains: Complex[Tensor, "K"]
    noise_std: float

    def superpose(self, symbols: Complex[Tensor, "K S"], rows: Sequence[int]) -> Complex[Tensor, "S"]:
        return self.gains[list(rows)].to(symbols.device) @ symbols

    def receive(self, superposed: Complex[Tensor, "S"]) -> Complex[Tensor, "S"]:
        return superposed

    def receiver_noise(self, num_symbols: int, rng: np.random.Generator) -> Complex[Tensor, "S"]:
        return self.noise_std * _complex_normal(rng, (num_symbols,))


@final
@dataclass(frozen=True)
class AntennaLevelAir(AbstractAir):
    """Channels, transmit scalars and beamformer one by one: the reference."""

    channel: Complex[Tensor, "K N"]
    transmit_scalars: Complex[Tensor, "K"]
    receive_beamformer: Complex[Tensor, "N"]
    noise_power_w: float

    def superpose(self, symbols: Complex[Tensor, "K S"], rows: Sequence[int]) -> Complex[Tensor, "N S"]:
        picked = list(rows)
        scalars, channel = (x[picked].to(symbols.device) for x in (self.transmit_scalars, self.channel))
        return superpose(precode(symbols, scalars), channel)

    def receive(self, superposed: Complex[Tensor, "N S"]) -> Complex[Tensor, "S"]:
        return beamform(superposed, self.receive_beamformer.to(superposed.device))

    def receiver_noise(self, num_symbols: int, rng: np.random.Generator) -> Complex[Tensor, "S"]:
        shape = (self.receive_beamformer.shape[0], num_symbols)
        noise = self.noise_power_w**0.5 * _complex_normal(rng, shape)
        return beamform(noise.to(self.receive_beamformer.dtype), self.receive_beamformer)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex[Tensor, "..."]:
    """Circularly symmetric ``CN(0, 1)`` draws in single precision."""
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return torch.complex(torch.from_numpy(real), torch.from_numpy(imaginary))
