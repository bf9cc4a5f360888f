"""What lies between devices and receivers, and how the uplink uses it."""

from typing import Literal

from pydantic import Field, model_validator

from airsim.scenario.fields import Count, Frequency, Positive, PowerDensity, Ratio, Section, default
from airsim.scenario.problems import Problem, ProblemsError


class PathLoss(Section):
    """Log-distance path loss: gain = reference_gain (distance / 1 m)^-exponent."""

    reference_gain: Ratio = default("-30 dB")
    exponent_base_station: Positive = 3.2
    exponent_edge_server: Positive = 2.8


class Noise(Section):
    """Thermal noise: density times bandwidth times noise figure."""

    density: PowerDensity = default("-174 dBm/Hz")
    figure: Ratio = default("9 dB")


class Fading(Section):
    """Block fading, drawn anew each round; `k_factor` is fixed path over scattered power."""

    model: Literal["rayleigh", "rician"] = "rayleigh"
    k_factor: Ratio | None = None

    @model_validator(mode="after")
    def _check(self) -> "Fading":
        if self.model == "rician" and self.k_factor is None:
            hint = "add k_factor: 6 dB"
            raise ProblemsError(Problem("rician fading needs a k_factor", hint, ("model",), (("k_factor",),)))
        if self.model == "rayleigh" and self.k_factor is not None:
            hint = "write model: rician, or leave k_factor out (channel.fading.k_factor=null)"
            raise ProblemsError(
                Problem("rayleigh fading has no k_factor", hint, ("k_factor",), (("model",),))
            )
        return self


class Channel(Section):
    """Bandwidth, fading and either `snr` or both `path_loss` and `noise`.

    `snr` is the mean receive SNR per antenna of every link at the device's average power.
    """

    bandwidth: Frequency = default("1 MHz")
    snr: Ratio | None = None
    path_loss: PathLoss | None = None
    noise: Noise | None = None
    fading: Fading = Field(default_factory=Fading)

    @model_validator(mode="after")
    def _check(self) -> "Channel":
        physical = [name for name in ("path_loss", "noise") if getattr(self, name) is not None]
        if self.snr is not None and physical:
            message = f"snr excludes {' and '.join(physical)}: it stands for path loss and noise together"
            nulls = " and ".join(f"channel.{name}=null" for name in physical)
            hint = f"to use path_loss and noise set channel.snr=null; to use snr set {nulls}"
            raise ProblemsError(Problem(message, hint, ("snr",), tuple((name,) for name in physical)))
        if self.snr is None and not physical:
            hint = "add snr: 20 dB, or path_loss: {} and noise: {} for the physical defaults"
            others = (("path_loss",), ("noise",))
            raise ProblemsError(
                Problem("neither snr nor path_loss and noise are given", hint, ("snr",), others)
            )
        if self.snr is None and len(physical) == 1:
            lacking = "noise" if physical == ["path_loss"] else "path_loss"
            message = f"{physical[0]} is given without {lacking}"
            hint = f"add channel.{lacking}, where {{}} stands for its defaults"
            raise ProblemsError(Problem(message, hint, (physical[0],), ((lacking,), ("snr",))))
        return self


class Uplink(Section):
    """How payloads reach the receivers: superposed over the air, or as an ideal sum."""

    mode: Literal["aircomp", "error-free"] = "aircomp"
    air: Literal["effective", "antenna"] = "effective"
    normalisation: Literal["per-device", "common", "rms"] = "per-device"
    csi: Literal["perfect"] = "perfect"


# The methods of `optim` that design all receivers of a round.
Method = Literal[
    "auto",
    "sqp",
    "phase-mm",
    "alternating",
    "sca",
    "sdr",
    "equal-split",
    "full-power",
    "inversion",
    "truncated-inversion",
    "random-direction",
    "weighted-sum",
    "leading-eigenvector",
    "weakest-device",
    "antenna-selection",
]


class Allocation(Section):
    """The design of transmit scalars and receive beamformers, once per round.

    `misalignment_weight` divides the noise in the design: 1 minimises the MSE, more lowers the bias.
    """

    method: Method = "auto"
    misalignment_weight: Positive = 1.0
    starts: Count = 4
    max_iterations: Count = 8
