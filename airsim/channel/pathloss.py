"""Mean power gain of a link, and the thermal noise that it competes with."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class LogDistance:
    """Log-distance law: gain ``C_0 (d / 1 m)^-gamma``, linear; the far field is assumed."""

    reference_gain: float
    exponent: float

    def gain(self, distance_m: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
        """Path gain at each distance.

        Raises:
            ValueError: a distance below 1 m, where the law would exceed its reference gain.
        """
        nearest = int(np.argmin(distance_m))
        if distance_m[nearest] < 1:
            raise ValueError(
                f"device {nearest} stands {distance_m[nearest]:g} m from a receiver, but the log-distance "
                "law starts at 1 m; raise the heights or network.devices.min_distance"
            )
        return self.reference_gain * distance_m**-self.exponent


def thermal_noise_w(bandwidth_hz: float, density_w_per_hz: float, figure: float) -> float:
    """Noise power ``N_0 B F`` of a receiver in watts; the noise figure F is linear."""
    return density_w_per_hz * bandwidth_hz * figure
