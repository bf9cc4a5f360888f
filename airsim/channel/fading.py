"""Small-scale fading: the unit-power part of a channel that changes from block to block."""

import abc
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Complex, Float


def complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex[np.ndarray, "..."]:
    """Circularly symmetric ``CN(0, 1)`` draws: variance 1/2 in each real dimension."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def steering_vector(angle_rad: Float[np.ndarray, "K"], num_antennas: int) -> Complex[np.ndarray, "K N"]:
    """Response of a half-wavelength uniform linear array: ``a_q = exp(-j pi q sin(angle))``."""
    return np.exp(-1j * np.pi * np.arange(num_antennas) * np.sin(angle_rad)[:, None])


class AbstractFading(abc.ABC):
    """A law for the small-scale coefficients, with unit mean power per antenna."""

    @abc.abstractmethod
    def draw(
        self, angle_rad: Float[np.ndarray, "K"], num_antennas: int, rng: np.random.Generator
    ) -> Complex[np.ndarray, "K N"]:
        """Coefficients of one coherence block."""


@final
@dataclass(frozen=True)
class Rayleigh(AbstractFading):
    """No line of sight: independent ``CN(0, 1)`` coefficients."""

    def draw(
        self, angle_rad: Float[np.ndarray, "K"], num_antennas: int, rng: np.random.Generator
    ) -> Complex[np.ndarray, "K N"]:
        return complex_normal(rng, (angle_rad.size, num_antennas))


@final
@dataclass(frozen=True)
class Rician(AbstractFading):
    """Line of sight of power share ``K/(K+1)`` with a fresh phase in each block, the rest Rayleigh."""

    k_factor: float

    def draw(
        self, angle_rad: Float[np.ndarray, "K"], num_antennas: int, rng: np.random.Generator
    ) -> Complex[np.ndarray, "K N"]:
        phase = np.exp(2j * np.pi * rng.random(angle_rad.size))
        line_of_sight = phase[:, None] * steering_vector(angle_rad, num_antennas)
        scattered = complex_normal(rng, (angle_rad.size, num_antennas))
        direct_share = self.k_factor / (self.k_factor + 1)
        return np.sqrt(direct_share) * line_of_sight + np.sqrt(1 - direct_share) * scattered
