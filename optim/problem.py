"""One receiver that wants a weighted sum of what many devices send at once."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from optim import checks
from optim.csi import ErrorCovariance


@dataclass(frozen=True, eq=False)
class AirCompProblem:
    r"""Choose transmit scalars :math:`b_k` and a receive beamformer :math:`m`:

    .. math:: \min_{m, b}\ \kappa \sum_k |m^H h_k b_k - \omega_k|^2 + \sum_k |b_k|^2 m^H \Sigma_k m
              + \sigma^2 \|m\|^2 \quad\text{subject to}\quad |b_k|^2 \le P_k

    Symbols are zero-mean, of unit power and uncorrelated across devices. Leading axes of `channel`
    are a batch of independent problems; every other field is broadcast to it.

    Args:
        channel: h, one row per device; a row of zeros is a lost link. With imperfect CSI, the estimate.
        target_gains: omega >= 0, the gain every device should arrive with.
        power_budget_w: P >= 0; a device with no power adds omega^2 to every design's error.
        noise_power_w: sigma^2 > 0 per antenna and complex symbol.
        misalignment_weight: kappa > 0, how much misalignment counts against noise: 1 minimises the mean
            squared error, a large number approaches uniform forcing, which is unbiased.
        error_covariance: Sigma_k of imperfect CSI; without it the channel is known.
        device_antennas: antennas of every device. With more than one, `channel` has one more axis, (K, N,
            device_antennas), and b_k is a vector whose squared norm is the power.
    """

    # Anything array-like comes in; what stands on the left of each `|` is kept.
    channel: Complex[np.ndarray, "..."] | Any
    target_gains: Float[np.ndarray, "*batch K"] | Any
    power_budget_w: Float[np.ndarray, "*batch K"] | Any
    noise_power_w: Float[np.ndarray, "*batch"] | Any
    misalignment_weight: Float[np.ndarray, "*batch"] | Any = 1.0
    error_covariance: ErrorCovariance | None = None
    device_antennas: int = 1

    def __post_init__(self) -> None:
        channel = checks.complex_array("channel", self.channel)
        _check_axes(channel, self.device_antennas)
        channel.setflags(write=False)
        targets = checks.real_array("target_gains", self.target_gains)
        checks.non_negative("target_gains", targets, "a target's sign or phase belongs into the symbol")
        power_w = checks.real_array("power_budget_w", self.power_budget_w)
        checks.non_negative("power_budget_w", power_w, "a device that stays silent has 0 W")
        noise_w = checks.real_array("noise_power_w", self.noise_power_w)
        checks.positive("noise_power_w", noise_w, "give the receiver's noise power in watts, above zero")
        kappa = checks.real_array("misalignment_weight", self.misalignment_weight)
        checks.positive("misalignment_weight", kappa, "1 minimises the mean squared error")
        object.__setattr__(self, "channel", channel)
        per_device, batch = (*self.batch_shape, self.num_devices), self.batch_shape
        object.__setattr__(self, "target_gains", checks.broadcast("target_gains", targets, per_device))
        object.__setattr__(self, "power_budget_w", checks.broadcast("power_budget_w", power_w, per_device))
        object.__setattr__(self, "noise_power_w", checks.broadcast("noise_power_w", noise_w, batch))
        object.__setattr__(self, "misalignment_weight", checks.broadcast("misalignment_weight", kappa, batch))
        if self.error_covariance is not None:
            if not isinstance(self.error_covariance, ErrorCovariance):
                raise ValueError(
                    f"error_covariance is a {type(self.error_covariance).__name__}: give an "
                    "ErrorCovariance(scale, shape), or leave it out where the channel is known"
                )
            fitted = self.error_covariance.fitted(batch, self.num_devices, self.num_antennas)
            object.__setattr__(self, "error_covariance", fitted)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: () for a single problem."""
        return self.channel.shape[: -2 if self.device_antennas == 1 else -3]

    @property
    def num_devices(self) -> int:
        """K."""
        return self.channel.shape[len(self.batch_shape)]

    @property
    def num_antennas(self) -> int:
        """N."""
        return self.channel.shape[len(self.batch_shape) + 1]

    @property
    def stacked_channel(self) -> Complex[np.ndarray, "*batch K N T"]:
        """The channel with the axis of the device's antennas, also where that is 1."""
        return self.channel[..., None] if self.device_antennas == 1 else self.channel

    def flattened(self) -> "AirCompProblem":
        """The same problems with exactly one batch axis."""
        batch = len(self.batch_shape)
        if batch == 1:
            return self
        covariance = self.error_covariance
        return self.replaced(
            channel=self.channel.reshape(-1, *self.channel.shape[batch:]),
            target_gains=self.target_gains.reshape(-1, self.num_devices),
            power_budget_w=self.power_budget_w.reshape(-1, self.num_devices),
            noise_power_w=self.noise_power_w.reshape(-1),
            misalignment_weight=self.misalignment_weight.reshape(-1),
            error_covariance=None if covariance is None else covariance.flattened(self.num_devices),
        )

    def instance(self, index: int) -> "AirCompProblem":
        """Problem number `index` of the flattened batch, alone."""
        flat = self.flattened()
        covariance = flat.error_covariance
        return self.replaced(
            channel=flat.channel[index],
            target_gains=flat.target_gains[index],
            power_budget_w=flat.power_budget_w[index],
            noise_power_w=flat.noise_power_w[index],
            misalignment_weight=flat.misalignment_weight[index],
            error_covariance=None if covariance is None else covariance.instance(index),
        )

    def replaced(self, **changes: Any) -> "AirCompProblem":
        """The problem with some fields changed."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return AirCompProblem(**(kept | changes))


def _check_axes(channel: Complex[np.ndarray, "..."], device_antennas: int) -> None:
    if not isinstance(device_antennas, int | np.integer) or device_antennas < 1:
        raise ValueError(
            f"device_antennas = {device_antennas} is not allowed: give a whole number of at least 1"
        )
    axes = 2 if device_antennas == 1 else 3
    if channel.ndim < axes or 0 in channel.shape[1 - axes :]:
        wanted = "one row per device and one column per antenna"
        if axes == 3:
            wanted = "axes (devices, receive antennas, device antennas)"
        raise ValueError(f"channel has shape {channel.shape}: give {wanted}")
    if axes == 3 and channel.shape[-1] != device_antennas:
        raise ValueError(
            f"channel has shape {channel.shape}, but device_antennas = {device_antennas}: the last axis "
            "counts the antennas of a device"
        )
