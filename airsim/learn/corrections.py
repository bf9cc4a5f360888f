"""What some methods add to every local gradient."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import cut, rank_mask
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


@final
@dataclass(frozen=True)
class TailDecay(AbstractCorrection):
    r"""HetLoRA's pressure on tails: the gradient of :math:`\lambda\,\|B_t\|_F\,\|A_t\|_F`, layer by layer.

    .. math:: \lambda\,\frac{\|B_t\|_F}{\|A_t\|_F}\,A_t, \qquad \lambda\,\frac{\|A_t\|_F}{\|B_t\|_F}\,B_t

    with the components ``t`` beyond the first `heads[device]`; where a tail is 0, its own part is 0. Source:
    [HetLoRA].
    """

    strength: float
    heads: Mapping[int, int]

    def of(
        self, name: str, devices: Sequence[int], factors: LoRAFactors, received: LoRAFactors
    ) -> LoRAFactors:
        heads = torch.tensor([self.heads[device] for device in devices], device=factors.a.device)
        tail = cut(factors, ~rank_mask(factors.rank, heads))
        size_a, size_b = tail.a.norm(dim=(1, 2), keepdim=True), tail.b.norm(dim=(1, 2), keepdim=True)
        pull_a, pull_b = self.strength * size_b * tail.a, self.strength * size_a * tail.b
        return LoRAFactors(_ratio(pull_a, size_a), _ratio(pull_b, size_b))


def _ratio(rows: Float[Tensor, "K _ _"], sizes: Float[Tensor, "K 1 1"]) -> Float[Tensor, "K _ _"]:
    """Rows over their sizes, and 0 where these are 0."""
    return torch.where(sizes > 0, rows / sizes.where(sizes > 0, torch.ones_like(sizes)), 0.0)
