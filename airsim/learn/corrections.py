"""What some methods add to every local gradient."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from airsim.learn.adapters import LoRAFactors


class AbstractCorrection(abc.ABC):
    """A term that depends on a device's factors, on those it received, and on what it remembers."""

    @abc.abstractmethod
    def of(
        self, name: str, devices: Sequence[int], factors: LoRAFactors, received: LoRAFactors
    ) -> LoRAFactors:
        """What is added to the gradient of one layer's factors, stacked over the devices."""


@final
@dataclass(frozen=True)
class Proximal(AbstractCorrection):
    r"""The pull of FedProx towards the received model: :math:`\mu (W - W_t)`, factor by factor [Li20]."""

    strength: float

    def of(
        self, name: str, devices: Sequence[int], factors: LoRAFactors, received: LoRAFactors
    ) -> LoRAFactors:
        return LoRAFactors(self.strength * (factors.a - received.a), self.strength * (factors.b - received.b))


@final
@dataclass(frozen=True)
class ControlVariates(AbstractCorrection):
    """The drift term of SCAFFOLD: ``c - c_k``, the server's control variate less the device's own.

    Source: [Karimireddy20].
    """

    server: Mapping[str, LoRAFactors]
    own: Mapping[str, LoRAFactors]

    def of(
        self, name: str, devices: Sequence[int], factors: LoRAFactors, received: LoRAFactors
    ) -> LoRAFactors:
        own = self.own[name].take(devices)
        return LoRAFactors(self.server[name].a - own.a, self.server[name].b - own.b)
