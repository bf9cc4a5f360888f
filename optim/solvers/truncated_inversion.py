"""Channel inversion without the devices in a deep fade."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim import mse
from optim.design import TransceiverDesign
from optim.directions import pick, unit
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import arriving
from optim.problem import AirCompProblem
from optim.solvers.baselines import starting_directions
from optim.solvers.separate import AbstractSeparateSolver

PerDevice = Float[np.ndarray, "S B K"]
PerCount = Float[np.ndarray, "S B K1"]


@final
@dataclass(frozen=True)
class TruncatedInversion(AbstractSeparateSolver):
    r"""Devices with a gain below a threshold stay silent, the others arrive exactly as wanted.

    .. math:: \mathrm{MSE} = \sum_{k \in D} \omega_k^2 + \sigma^2 \max_{k \notin D}
              \frac{\omega_k'^2}{P_k |f^H h_k|^2} + \sum_{k \notin D} (\omega_k' - \omega_k)^2, \qquad
              D = \{k : |f^H h_k|^2 < g\}

    for unit f, the best of the starting points. A device that cannot be heard is dropped in any case.

    Args:
        threshold: g, in units of the channel gain; without it the best of the K gains there are, of which
            the least drops nobody. Above all gains everybody stays silent.
        renormalise: whether those that are kept make up for the others,
            :math:`\omega_k' = \omega_k \sum_j \omega_j / \sum_{j \notin D} \omega_j`; else
            :math:`\omega_k' = \omega_k`.
    """

    options: SolverOptions = field(default_factory=SolverOptions)
    threshold: float | None = None
    renormalise: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"threshold = {self.threshold} is not allowed: give a gain of 0 or more")

    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """The best of all directions and thresholds."""
        flat = problem.flattened()
        units = unit(starting_directions(form, self.options))
        gains, strengths, targets, order = _ranked(flat, form, units)
        makeup = self._makeup(targets)
        scale, error = _by_count(strengths, targets, makeup)
        error = np.where(self._allowed(gains, targets), error, np.inf)
        best = np.argmin(error.min(axis=-1), axis=0)
        count = np.argmin(pick(error, best), axis=-1)[:, None]
        scale, factor = (np.take_along_axis(pick(v, best), count, axis=-1) for v in (scale, makeup))
        beamformer = form.invert(pick(units, best) * scale)
        kept = np.argsort(pick(order, best), axis=-1) < count
        wanted = kept * flat.target_gains * factor
        vectors = mse.inverting_vectors(mse.beam_gains(flat, beamformer), wanted, flat.power_budget_w)
        return TransceiverDesign(vectors[..., 0], beamformer)

    def _makeup(self, targets: PerDevice) -> PerCount:
        """What targets are multiplied by if the 0, 1, ... K strongest are kept."""
        sums = _running(targets)
        if not self.renormalise:
            return np.ones_like(sums)
        return np.where(sums > 0, sums[..., -1:] / np.where(sums > 0, sums, 1.0), 1.0)

    def _allowed(self, gains: PerDevice, targets: PerDevice) -> Bool[np.ndarray, "S B K1"]:
        """Which counts a threshold leads to: the given one, or any that separates unequal gains."""
        heard = np.where(targets > 0, gains, 0.0)
        if self.threshold is not None:
            kept = ((targets > 0) & (gains >= np.sqrt(self.threshold))).sum(axis=-1)
            return np.arange(heard.shape[-1] + 1) == kept[..., None]
        edges = np.diff(heard, axis=-1, append=0.0) < 0
        nobody = ~edges.any(axis=-1, keepdims=True)
        return np.concatenate([nobody, edges], axis=-1)


def _ranked(
    flat: AirCompProblem, form: NormalForm, units: Complex[np.ndarray, "S B n"]
) -> tuple[PerDevice, PerDevice, PerDevice, Int[np.ndarray, "S B K"]]:
    """Gains, strengths and targets from the strongest heard device to the weakest; and their order."""
    gains = np.abs(arriving(flat.channel.conj(), (form.basis @ units[..., None])[..., 0]))
    strengths = gains / form.deviation[:, None] * np.sqrt(flat.power_budget_w)
    norm = np.where(form.target_norm > 0, form.target_norm, 1.0)
    targets = np.where(strengths > 0, flat.target_gains / norm[:, None], 0.0)
    order = np.argsort(-np.where(targets > 0, gains, -1.0), axis=-1, kind="stable")
    gains, strengths, targets = (np.take_along_axis(v, order, -1) for v in (gains, strengths, targets))
    return gains, strengths, targets, order


def _by_count(strengths: PerDevice, targets: PerDevice, makeup: PerCount) -> tuple[PerCount, PerCount]:
    """Noise amplitude and error, less a constant, if the 0, 1, ... K strongest are kept."""
    ratios = np.where(targets > 0, targets / np.where(targets > 0, strengths, 1.0), 0.0)
    scale = makeup * _led_by_zero(np.maximum.accumulate(ratios, axis=-1))
    squares = _running(targets**2)
    return scale, scale**2 + (makeup - 1) ** 2 * squares - squares


def _running(values: PerDevice) -> PerCount:
    return _led_by_zero(np.cumsum(values, axis=-1))


def _led_by_zero(values: PerDevice) -> PerCount:
    return np.concatenate([np.zeros_like(values[..., :1]), values], axis=-1)
