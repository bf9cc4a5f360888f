"""Training one factor at a time: FFA-LoRA and RoLoRA, in which the mean of factors is exact.

The other factor is the same on all devices, so ``sum p_k B_k A = (sum p_k B_k) A``.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.operators.adapter_operator import (
    AdapterState,
    AdapterView,
    mean_factors,
    require_common_rank,
    send_factors,
    sent_down,
    spread,
)
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import Live, LiveLayers, everywhere

# Rounds, counted from 0, in which B is trained. Papers count from 0 or from 1, so parity is a choice.
Parity = Literal["even", "odd"]


def alternate(b_rounds: Parity, round_index: int) -> Live:
    """``B`` in the rounds of this parity, ``A`` in the others."""
    return Live.B if (round_index % 2 == 0) == (b_rounds == "even") else Live.A


class AbstractOneFactor(AbstractAggregationOperator[AdapterStack, AdapterState]):
    """One live factor per round and its mean back; the other one is common and does not travel."""

    sends: Sends

    @property
    def on_air(self) -> OnAir:
        """One weighted sum."""
        return OnAir.LINEAR

    @abc.abstractmethod
    def live_factor(self, round_index: int) -> Live:
        """The factor that is trained in a round."""

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """The same factor in every layer."""
        return everywhere(state.layers, self.live_factor(round_index))

    def admit(self, view: AdapterView) -> None:
        """Devices of the common rank only."""
        require_common_rank(view, type(self).__name__)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The live factor of each device, or its change."""
        return send_factors(before, after, view, self.live(view.state, view.index), self.sends)

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The mean of the live factor beside the dead one."""
        self.admit(view)
        layers = mean_factors(received, view, self.live(view.state, view.index), self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The common adapter."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """The factor that was live."""
        return sent_down(update.state.layers, self.live(view.state, view.index), view, row)


@final
@dataclass(frozen=True)
class FFALoRA(AbstractOneFactor):
    """``A = A_0``, random, frozen and common; devices train and send ``B``. Source: [FFA-LoRA]."""

    sends: Sends = "change"

    def live_factor(self, round_index: int) -> Live:
        """``B``, always."""
        return Live.B


@final
@dataclass(frozen=True)
class RoLoRA(AbstractOneFactor):
    """``B`` in one round and ``A`` in the next, the other one frozen meanwhile. Source: [RoLoRA].

    `b_rounds` counts from 0. The paper trains B in odd rounds; counted from 1 that is "even" here.
    """

    b_rounds: Parity = "even"
    sends: Sends = "change"

    def live_factor(self, round_index: int) -> Live:
        """By the parity of the round."""
        return alternate(self.b_rounds, round_index)
