r"""How a payload becomes unit-power symbols: the offset it loses and the scale it is divided by.

Every rule sends :math:`x_k = (g_k - o_k) / s_k` with one offset and one scale per device. The offsets,
the scales and the design travel on the control channel; the air carries symbols alone.
"""

import abc
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PayloadStatistics:
    """One offset and one scale per device; a scale of zero means that there is nothing to send."""

    offset: Float[np.ndarray, "K"]
    scale: Float[np.ndarray, "K"]


class AbstractNormalisation(abc.ABC):
    """A rule for offset and scale, and for the share of the power budget that its symbols use."""

    @property
    @abc.abstractmethod
    def reals(self) -> int:
        """Numbers that a device tells of each payload on the control channel."""

    @abc.abstractmethod
    def statistics(self, payload: Float[Tensor, "K D"]) -> PayloadStatistics:
        """Offset and scale of each device's payload."""

    @abc.abstractmethod
    def of_moments(
        self, mean: Float[np.ndarray, "K"], second_moment: Float[np.ndarray, "K"]
    ) -> PayloadStatistics:
        """The same from the mean of a payload's entries and of their squares, where only these are known."""

    @abc.abstractmethod
    def symbol_power(self, *scales: Float[np.ndarray, "K"]) -> tuple[Float[np.ndarray, "K"], ...]:
        """Mean power of each device's symbols on the air, for all payloads of a round together.

        A rule that divides by more than the device's own deviation wastes part of the budget.
        """


@final
@dataclass(frozen=True)
class PerDevice(AbstractNormalisation):
    """Each device removes its mean and divides by its own deviation, which goes into its target."""

    @property
    def reals(self) -> int:
        """Mean and deviation."""
        return 2

    def statistics(self, payload: Float[Tensor, "K D"]) -> PayloadStatistics:
        return _mean_and_deviation(payload)

    def of_moments(
        self, mean: Float[np.ndarray, "K"], second_moment: Float[np.ndarray, "K"]
    ) -> PayloadStatistics:
        return _deviation_of_moments(mean, second_moment)

    def symbol_power(self, *scales: Float[np.ndarray, "K"]) -> tuple[Float[np.ndarray, "K"], ...]:
        return tuple(np.ones_like(scale) for scale in scales)


@final
@dataclass(frozen=True)
class Common(AbstractNormalisation):
    r"""All divide by the largest deviation of the round, the single :math:`\sigma_t` of [Sun, Eq. 41].

    The symbol power of device k is then :math:`v_k = \varsigma_k^2 / \sigma_t^2 \le 1`. This equals
    per-device normalisation over a channel weakened by :math:`\sqrt{v_k}`, which is how it is carried out.
    Errors are logged in units of the same reference as for the other rules, the weighted root mean square of
    the deviations; their product with its square does not depend on that choice.
    """

    @property
    def reals(self) -> int:
        """Mean and deviation."""
        return 2

    def statistics(self, payload: Float[Tensor, "K D"]) -> PayloadStatistics:
        return _mean_and_deviation(payload)

    def of_moments(
        self, mean: Float[np.ndarray, "K"], second_moment: Float[np.ndarray, "K"]
    ) -> PayloadStatistics:
        return _deviation_of_moments(mean, second_moment)

    def symbol_power(self, *scales: Float[np.ndarray, "K"]) -> tuple[Float[np.ndarray, "K"], ...]:
        largest = max((float(scale.max()) for scale in scales if scale.size), default=0.0)
        if largest == 0:
            return tuple(np.ones_like(scale) for scale in scales)
        return tuple((scale / largest) ** 2 for scale in scales)


@final
@dataclass(frozen=True)
class RootMeanSquare(AbstractNormalisation):
    """Each device divides by its root mean square and keeps its mean in the symbols."""

    @property
    def reals(self) -> int:
        """The root mean square."""
        return 1

    def statistics(self, payload: Float[Tensor, "K D"]) -> PayloadStatistics:
        square = payload.double().square().sum(dim=1) / max(payload.shape[1], 1)
        return PayloadStatistics(np.zeros(payload.shape[0]), square.sqrt().cpu().numpy())

    def of_moments(
        self, mean: Float[np.ndarray, "K"], second_moment: Float[np.ndarray, "K"]
    ) -> PayloadStatistics:
        return PayloadStatistics(np.zeros_like(mean), np.sqrt(second_moment))

    def symbol_power(self, *scales: Float[np.ndarray, "K"]) -> tuple[Float[np.ndarray, "K"], ...]:
        return tuple(np.ones_like(scale) for scale in scales)


def _mean_and_deviation(payload: Float[Tensor, "K D"]) -> PayloadStatistics:
    entries = max(payload.shape[1], 1)  # an adapter of rank zero has no entries and zero deviation
    wide = payload.double()
    mean = wide.sum(dim=1) / entries
    deviation = ((wide - mean[:, None]).square().sum(dim=1) / entries).sqrt()
    return PayloadStatistics(mean.cpu().numpy(), deviation.cpu().numpy())


def _deviation_of_moments(
    mean: Float[np.ndarray, "K"], second_moment: Float[np.ndarray, "K"]
) -> PayloadStatistics:
    # Rounding alone may leave less than nothing, for a payload of equal entries.
    return PayloadStatistics(mean, np.sqrt(np.maximum(second_moment - mean**2, 0.0)))
