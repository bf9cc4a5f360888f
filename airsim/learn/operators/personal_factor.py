"""FedSA-LoRA: A is shared, B never leaves its device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import (
    AdapterState,
    AdapterView,
    mean_of_present,
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


@final
@dataclass(frozen=True)
class FedSALoRA(AbstractAggregationOperator[AdapterStack, AdapterState]):
    r"""Both factors are trained, :math:`\bar A = \sum_k p_k A_k` is shared, ``B_k`` is personal.

    Devices of lower rank hold the first rows of the common A, whose mean goes over the devices that have a
    row; the paper has one rank. The ``B`` of the state is where new devices start. Source: [FedSA].
    """

    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """One weighted sum."""
        return OnAir.LINEAR

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """Both factors, always."""
        return everywhere(state.layers, Live.BOTH)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """``A`` of each device, or its change."""
        return send_factors(before, after, view, everywhere(view.state.layers, Live.A), self.sends)

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The mean of A."""
        live = everywhere(view.state.layers, Live.A)
        layers = mean_of_present(received, view, live, self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The common A beside the B that each device kept."""
        common = spread(state, kept.ranks).layers
        layers = {name: LoRAFactors(common[name].a, kept.layers[name].b) for name in common}
        return AdapterStack(layers, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """``A`` alone."""
        return sent_down(update.state.layers, everywhere(update.state.layers, Live.A), view, row)
