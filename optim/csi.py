"""What is not known of a channel: the covariance of its error, device by device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Inexact, Int

from optim import checks

# A covariance may be this far from Hermitian, and its eigenvalues this far below zero, relative to its size.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class ErrorCovariance:
    r"""The covariance :math:`\Sigma_k = s_k R` of :math:`h_k - \hat h_k` given the estimate :math:`\hat h_k`.

    Errors have zero mean given the estimate, as those of an LMMSE estimator have, and the columns of a
    multi-antenna device's error are independent.

    Args:
        scale: s >= 0, one number or one per device.
        shape: R, Hermitian and positive semidefinite; without it the identity. One matrix for all devices is
            all that large problems can store; in full, give one matrix per device (and ``scale=1``).
    """

    scale: Float[np.ndarray, "*#batch K"] | Any
    shape: Complex[np.ndarray, "*#batch N N"] | Any | None = None

    def __post_init__(self) -> None:
        scale = checks.real_array("error_covariance.scale", self.scale)
        checks.non_negative("error_covariance.scale", scale, "a perfectly known channel has scale 0")
        scale.setflags(write=False)
        object.__setattr__(self, "scale", scale)
        if self.shape is not None:
            object.__setattr__(self, "shape", _covariance(self.shape))

    def fitted(self, batch: tuple[int, ...], num_devices: int, num_antennas: int) -> "ErrorCovariance":
        """The same covariance with one scale per device of every problem; refuses sizes that do not fit."""
        scale = checks.broadcast("error_covariance.scale", self.scale, (*batch, num_devices))
        shape = self.shape
        if shape is not None:
            if shape.shape[-1] != num_antennas:
                raise ValueError(
                    f"error_covariance.shape is {shape.shape[-1]} x {shape.shape[-1]}, but the channel has "
                    f"{num_antennas} antennas"
                )
            if shape.ndim > 2:
                full = (*batch, num_devices, num_antennas, num_antennas)
                shape = checks.broadcast("error_covariance.shape", shape, full)
        return _unchecked(scale, shape)

    def flattened(self, num_devices: int) -> "ErrorCovariance":
        """The batch axes of a fitted covariance made one."""
        shape = self.shape
        if shape is not None and shape.ndim > 2:
            shape = shape.reshape(-1, *shape.shape[-3:])
        return _unchecked(self.scale.reshape(-1, num_devices), shape)

    def instance(self, index: int | Int[np.ndarray, "_"]) -> "ErrorCovariance":
        """Problem number `index` of a flattened batch, or several of them."""
        shape = self.shape
        return _unchecked(self.scale[index], shape if shape is None or shape.ndim == 2 else shape[index])

    def rescaled(self, factor: Float[np.ndarray, "*#batch K"] | float) -> "ErrorCovariance":
        """Every device's covariance times a factor."""
        return _unchecked(self.scale * factor, self.shape)

    def quadratic(self, beamformer: Complex[np.ndarray, "*batch N"]) -> Float[np.ndarray, "*batch K"]:
        """``v_k = m^H Sigma_k m``."""
        if self.shape is None:
            size = (np.abs(beamformer) ** 2).sum(axis=-1)[..., None]
        elif self.shape.ndim == 2:
            size = np.einsum("...i,ij,...j->...", beamformer.conj(), self.shape, beamformer).real[..., None]
        else:
            m = beamformer[..., None, :]
            size = (m.conj() * (self.shape @ m[..., None])[..., 0]).sum(axis=-1).real
        return self.scale * np.maximum(size, 0.0)

    def applied(self, vector: Complex[np.ndarray, "*batch N"]) -> Complex[np.ndarray, "*batch K N"]:
        """``Sigma_k m`` of every device."""
        if self.shape is None or self.shape.ndim == 2:
            shaped = vector if self.shape is None else vector @ self.shape.T
            return np.asarray(self.scale[..., None] * shaped[..., None, :])
        return np.asarray(self.scale[..., None] * (self.shape @ vector[..., None, :, None])[..., 0])

    def total(self, weights: Float[np.ndarray, "*batch K"], num_antennas: int) -> Inexact[np.ndarray, "..."]:
        """``sum_k weights_k Sigma_k``, one matrix per problem."""
        if self.shape is None or self.shape.ndim == 2:
            shape = np.eye(num_antennas) if self.shape is None else self.shape
            return (weights * self.scale).sum(axis=-1)[..., None, None] * shape
        return ((weights * self.scale)[..., None, None] * self.shape).sum(axis=-3)


def _covariance(values: Any) -> Complex[np.ndarray, "*batch N N"]:
    field = "error_covariance.shape"
    shape = checks.complex_array(field, values)
    if shape.ndim < 2 or shape.shape[-1] != shape.shape[-2]:
        raise ValueError(f"{field} has shape {shape.shape}: give a square matrix, or one per device")
    size = np.abs(shape).max(axis=(-2, -1), initial=0.0)
    skew = np.abs(shape - np.swapaxes(shape.conj(), -1, -2)).max(axis=(-2, -1), initial=0.0)
    if (skew > ROUNDING * size).any():
        raise ValueError(f"{field} is not Hermitian: a covariance equals its conjugate transpose")
    lowest = np.linalg.eigvalsh(shape)[..., 0] if shape.size else np.zeros(())
    if (lowest < -ROUNDING * size * shape.shape[-1]).any():
        raise ValueError(f"{field} has the eigenvalue {lowest.min():g}: a covariance has none below zero")
    shape.setflags(write=False)
    return shape


def _unchecked(scale: Float[np.ndarray, "..."], shape: Any) -> ErrorCovariance:
    """Without the checks that its parts have already passed."""
    fresh = object.__new__(ErrorCovariance)
    object.__setattr__(fresh, "scale", scale)
    object.__setattr__(fresh, "shape", shape)
    return fresh
