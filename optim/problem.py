"""One receiver that wants a weighted sum of what many devices send at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from optim import checks


@dataclass(frozen=True, eq=False)
class AirCompProblem:
    r"""Choose transmit scalars :math:`b_k` and a receive beamformer :math:`m`:

    .. math:: \min_{m, b}\ \sum_k |m^H h_k b_k - \omega_k|^2 + \sigma^2 \|m\|^2
              \quad\text{subject to}\quad |b_k|^2 \le P_k

    Symbols are zero-mean, of unit power and uncorrelated across devices. Leading axes of `channel`
    are a batch of independent problems; every other field is broadcast to it.

    Args:
        channel: h, one row per device; a row of zeros is a lost link.
        target_gains: omega >= 0, the gain every device should arrive with.
        power_budget_w: P >= 0; a device with no power adds omega^2 to every design's error.
        noise_power_w: sigma^2 > 0 per antenna and complex symbol.
    """

    # Anything array-like comes in; what stands on the left of each `|` is kept.
    channel: Complex[np.ndarray, "*batch K N"] | Any
    target_gains: Float[np.ndarray, "*batch K"] | Any
    power_budget_w: Float[np.ndarray, "*batch K"] | Any
    noise_power_w: Float[np.ndarray, "*batch"] | Any

    def __post_init__(self) -> None:
        channel = checks.complex_array("channel", self.channel)
        if channel.ndim < 2 or channel.shape[-1] == 0:
            raise ValueError(
                f"channel has shape {channel.shape}: give one row per device and one column per antenna"
            )
        channel.setflags(write=False)
        targets = checks.real_array("target_gains", self.target_gains)
        checks.non_negative("target_gains", targets, "a target's sign or phase belongs into the symbol")
        power_w = checks.real_array("power_budget_w", self.power_budget_w)
        checks.non_negative("power_budget_w", power_w, "a device that stays silent has 0 W")
        noise_w = checks.real_array("noise_power_w", self.noise_power_w)
        checks.positive("noise_power_w", noise_w, "give the receiver's noise power in watts, above zero")
        per_device, batch = channel.shape[:-1], channel.shape[:-2]
        object.__setattr__(self, "channel", channel)
        object.__setattr__(self, "target_gains", checks.broadcast("target_gains", targets, per_device))
        object.__setattr__(self, "power_budget_w", checks.broadcast("power_budget_w", power_w, per_device))
        object.__setattr__(self, "noise_power_w", checks.broadcast("noise_power_w", noise_w, batch))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: () for a single problem."""
        return self.channel.shape[:-2]

    @property
    def num_devices(self) -> int:
        """K."""
        return self.channel.shape[-2]

    @property
    def num_antennas(self) -> int:
        """N."""
        return self.channel.shape[-1]

    def flattened(self) -> "AirCompProblem":
        """The same problems with exactly one batch axis."""
        num_devices, num_antennas = self.num_devices, self.num_antennas
        return AirCompProblem(
            channel=self.channel.reshape(-1, num_devices, num_antennas),
            target_gains=self.target_gains.reshape(-1, num_devices),
            power_budget_w=self.power_budget_w.reshape(-1, num_devices),
            noise_power_w=self.noise_power_w.reshape(-1),
        )

    def instance(self, index: int) -> "AirCompProblem":
        """Problem number `index` of the flattened batch, alone."""
        flat = self.flattened()
        return AirCompProblem(
            flat.channel[index],
            flat.target_gains[index],
            flat.power_budget_w[index],
            flat.noise_power_w[index],
        )
