r"""Whiten, scale and shrink a problem whose channel is only estimated; and its error with powers eliminated.

With rows :math:`a_k = \sqrt{P_k} \hat h_k^H / \sigma`, points :math:`x = \sigma m / \|\omega\|`, targets
:math:`w = \omega / \|\omega\|` and :math:`S_k = P_k \Sigma_k / \sigma^2` the best transmit amplitude leaves

.. math:: f(x) = \|x\|^2 + \sum_k \varphi_k, \quad
          \varphi_k = \min_{0 \le \beta \le 1} (w_k - \beta |a_k x|)^2 + \beta^2 v_k
                    = w_k^2 \frac{\rho}{1 + \rho} + (1 + \rho) \Big(\frac{w_k}{1 + \rho} - |a_k x|\Big)_+^2

with :math:`v_k = x^H S_k x` and :math:`\rho = v_k / |a_k x|^2`, the relative uncertainty of what arrives.
Along a ray :math:`\rho` stays the same: there, and with one antenna, this is the error of a known channel
with targets :math:`w / \sqrt{1 + \rho}` and rows :math:`\sqrt{1 + \rho}\, a`, plus a floor no power removes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim.csi import ErrorCovariance
from optim.normal_form import shrink
from optim.problem import AirCompProblem
from optim.threshold import best_scale


@dataclass(frozen=True, eq=False)
class RobustForm:
    """A flat batch of `B` problems: rows ``a_k`` per device antenna, targets, and covariances ``S_k``."""

    rows: Complex[np.ndarray, "B K T n"]
    targets: Float[np.ndarray, "B K"]
    covariance: ErrorCovariance
    basis: Complex[np.ndarray, "B N n"] | None
    target_norm: Float[np.ndarray, "B"]
    deviation: Float[np.ndarray, "B"]
    weight: Float[np.ndarray, "B"]

    @property
    def scale(self) -> Float[np.ndarray, "B"]:
        """The objective of silence: ``kappa |omega|^2``."""
        return self.weight * self.target_norm**2

    @property
    def silent(self) -> Bool[np.ndarray, "B"]:
        """Problems in which nobody with a target can be heard."""
        heard = (self.rows != 0).any(axis=(-2, -1))
        return np.asarray(~(heard & (self.targets > 0)).any(axis=-1))

    def taken(self, index: Int[np.ndarray, "_"]) -> "RobustForm":
        """Some problems of the batch, in any order, also repeatedly."""
        return RobustForm(
            self.rows[index],
            self.targets[index],
            self.covariance.instance(index),
            None if self.basis is None else self.basis[index],
            self.target_norm[index],
            self.deviation[index],
            self.weight[index],
        )

    def invert(self, point: Complex[np.ndarray, "B n"]) -> Complex[np.ndarray, "B N"]:
        """The receive beamformer ``m`` that belongs to ``x``."""
        full = point if self.basis is None else (self.basis @ point[..., None])[..., 0]
        return full * (self.target_norm / self.deviation)[:, None]

    def project(self, beamformer: Complex[np.ndarray, "B N"]) -> Complex[np.ndarray, "B n"]:
        """The ``x`` that belongs to ``m``, less what no channel can excite."""
        norm = np.where(self.target_norm > 0, self.target_norm, 1.0)
        scaled = beamformer * (self.deviation / norm)[:, None]
        if self.basis is None:
            return scaled
        return (np.swapaxes(self.basis.conj(), -1, -2) @ scaled[..., None])[..., 0]


def apply(problem: AirCompProblem) -> RobustForm:
    """The robust form of a problem; a known channel has an uncertainty of zero."""
    flat = problem.flattened()
    deviation = np.sqrt(flat.noise_power_w / flat.misalignment_weight)
    whitened = np.swapaxes(flat.stacked_channel.conj(), -1, -2) / deviation[:, None, None, None]
    rows = whitened * np.sqrt(flat.power_budget_w)[..., None, None]  # B K T N
    covariance = flat.error_covariance or ErrorCovariance(0.0).fitted(
        flat.batch_shape, flat.num_devices, flat.num_antennas
    )
    covariance = covariance.rescaled(flat.power_budget_w / flat.noise_power_w[:, None])
    basis = None
    if covariance.shape is None:  # isotropic errors look the same in every basis
        antennas = rows.shape[1:3]
        stacked, basis = shrink(rows.reshape(len(rows), -1, rows.shape[-1]))
        rows = stacked.reshape(len(rows), *antennas, -1)
    norm = np.linalg.norm(flat.target_gains, axis=-1)
    targets = flat.target_gains / np.where(norm > 0, norm, 1.0)[:, None]
    return RobustForm(rows, targets, covariance, basis, norm, deviation, flat.misalignment_weight)


def reduced_error(form: RobustForm, point: Complex[np.ndarray, "*c n"]) -> Float[np.ndarray, "*c"]:
    """``f(x)``: noise, and what every device's best amplitude leaves; leading axes end in the batch."""
    size = arriving_size(form, point)
    lost = device_errors(form.targets, size, form.covariance.quadratic(point))
    return np.asarray((np.abs(point) ** 2).sum(axis=-1) + lost.sum(axis=-1))


def arriving_size(form: RobustForm, point: Complex[np.ndarray, "*c n"]) -> Float[np.ndarray, "*c K"]:
    """``|a_k x|``: what arrives from a device that sends at full power."""
    arriving = (form.rows @ point[..., None, :, None])[..., 0]
    return np.linalg.norm(arriving, axis=-1)


def aligned_rows(
    form: RobustForm, point: Complex[np.ndarray, "B n"]
) -> tuple[Complex[np.ndarray, "B K n"], Float[np.ndarray, "B K"]]:
    """One row per device, turned so that what arrives at `point` is real and positive; and what arrives."""
    arriving = (form.rows @ point[:, None, :, None])[..., 0]  # B K T
    size = np.linalg.norm(arriving, axis=-1)
    heard = (size > 0)[..., None]
    weights = np.where(heard, arriving, 1.0) / np.where(heard, size[..., None], np.sqrt(arriving.shape[-1]))
    return (weights.conj()[..., None, :] @ form.rows)[..., 0, :], size


def best_amplitudes(
    targets: Float[np.ndarray, "*#c K"], size: Float[np.ndarray, "*c K"], spread: Float[np.ndarray, "*c K"]
) -> Float[np.ndarray, "*c K"]:
    """The best share of a device's full amplitude: ``min(1, w |z| / (|z|^2 + v))``; 0 for the unheard."""
    heard = size > 0
    safe = np.where(heard, size, 1.0)
    return np.where(heard, np.minimum(1.0, targets / (safe + spread / safe)), 0.0)


def device_errors(
    targets: Float[np.ndarray, "*#c K"], size: Float[np.ndarray, "*c K"], spread: Float[np.ndarray, "*c K"]
) -> Float[np.ndarray, "*c K"]:
    """``phi_k``: misalignment and uncertainty of every device at its best amplitude."""
    amplitude = best_amplitudes(targets, size, spread)
    return np.asarray((targets - amplitude * size) ** 2 + amplitude**2 * spread)


def scaled_along(form: RobustForm, directions: Complex[np.ndarray, "*c n"]) -> Complex[np.ndarray, "*c n"]:
    """The best multiple of each direction, by the threshold rule; exact with one antenna."""
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    units = directions / np.where(norm > 0, norm, 1.0)
    size, spread = arriving_size(form, units), form.covariance.quadratic(units)
    heard = size > 0
    growth = np.sqrt(1 + spread / np.where(heard, size, 1.0) ** 2)
    return units * best_scale(size * growth, form.targets / growth)[..., None]
