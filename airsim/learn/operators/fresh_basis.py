"""CoLR: one factor learned from zero against a basis that the server draws anew every round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import (
    AdapterState,
    AdapterView,
    mean_of_present,
    named,
    send_factors,
    spread,
)
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import Live, LiveLayers
from airsim.randomness import RandomStreams


@final
@dataclass(frozen=True)
class CoLR(AbstractAggregationOperator[AdapterStack, AdapterState]):
    r"""The free factor of the long side is averaged, merged and started again from zero.

    .. math:: W_0 \leftarrow W_0 + g\,\bar B A_t,\qquad A_t A_t^T = I

    where W is taller than wide, else :math:`W_0 + g\,B_t \bar A`. The basis is known by its seed, so only the
    free factor travels, and the mean is exact. Devices of lower rank take the first columns; a column's mean
    goes over the devices that have it (the visit counts of SCoLR). Source: [CoLR].
    """

    streams: RandomStreams
    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """One weighted sum."""
        return OnAir.LINEAR

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """The factor of the long side: ``B`` where the layer has at least as many outputs as inputs."""
        return {name: _free(factors) for name, factors in state.layers.items()}

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The free factor; its change is the factor itself, since it started from zero."""
        return send_factors(before, after, view, self.live(view.state, view.index), self.sends)

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The mean update as an increment of the base, and the next basis."""
        layers = mean_of_present(received, view, self.live(view.state, view.index), self.sends)
        increments = {
            name: LoRAFactors(factors.a, factors.b * view.state.scale(name))
            for name, factors in layers.items()
        }
        return ServerUpdate(self.fresh(view.state, view.index + 1), increments)

    def start(self, state: AdapterState) -> AdapterState:
        """Adapters of round 0."""
        return self.fresh(state, 0)

    def fresh(self, like: AdapterState, round_index: int) -> AdapterState:
        """The basis of a round, from its stream, and a free factor of 0.

        Raises:
            ValueError: the rank exceeds the short side of a layer, where no basis of that size exists.
        """
        layers: dict[str, LoRAFactors] = {}
        for index, (name, factors) in enumerate(like.layers.items()):
            short = min(factors.a.shape[-1], factors.b.shape[-2])
            if factors.rank > short:
                raise ValueError(
                    f"layers[{name!r}] has rank {factors.rank} and a short side of {short}: no such basis; "
                    f"choose a rank up to {short}"
                )
            rng = self.streams.generator("adapter-basis", round_index, index)
            drawn = torch.from_numpy(rng.standard_normal((short, factors.rank)))
            basis = torch.linalg.qr(drawn).Q.to(factors.a)
            zero_a, zero_b = torch.zeros_like(factors.a), torch.zeros_like(factors.b)
            free_b = _free(factors) is Live.B
            layers[name] = LoRAFactors(basis.mT, zero_b) if free_b else LoRAFactors(zero_a, basis)
        return AdapterState(layers, like.scaling)

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The new basis and a free factor of 0."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """The mean of the free factor; both bases follow from the seed."""
        merged = {name: f for name, f in update.base_increment.items() if isinstance(f, LoRAFactors)}
        return named(merged, self.live(view.state, view.index))


def _free(factors: LoRAFactors) -> Live:
    return Live.B if factors.b.shape[-2] >= factors.a.shape[-1] else Live.A
