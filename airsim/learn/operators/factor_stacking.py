"""FLoRA: all factors stacked into one wide product, merged into the base, and fresh adapters every round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack, rank_mask
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import AdapterState, AdapterView, spread, uploaded
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    Increment,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import Live, LiveLayers, everywhere
from airsim.learn.operators.products import (
    Route,
    class_of_route,
    dense_mean,
    send_products,
    weighted_products,
)
from airsim.randomness import RandomStreams


@final
@dataclass(frozen=True)
class FactorStacking(AbstractAggregationOperator[AdapterStack, AdapterState]):
    r"""FLoRA: the mean product without any loss, since a sum of products is a product of stacks.

    .. math:: W_0 \leftarrow W_0 + [g_1 B_1 \cdots g_m B_m]\,[p_1 A_1; \cdots; p_m A_m]

    Everybody merges it and starts again from ``B = 0`` and an ``A`` drawn anew; the draw is that of the
    round's stream, so that no draw has to be sent. Source: [FLoRA].
    """

    streams: RandomStreams
    init_scale: float = 1.0
    route: Route = "orthogonal"
    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """Every upload, or one sum of dense products."""
        return class_of_route(self.route)

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """Both factors, always."""
        return everywhere(state.layers, Live.BOTH)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """Factors or dense products, or their change."""
        return send_products(before, after, view, self.sends, self.route)

    def decode(self, received: Float[Tensor, "*rows D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The stack as an increment of the base, and fresh adapters for the next round."""
        increments: dict[str, Increment]
        if self.route == "dense":
            increments = dict(dense_mean(received, view, self.sends))
        else:
            live = everywhere(view.state.layers, Live.BOTH)
            wide = weighted_products(uploaded(received, view, live, self.sends), view)
            increments = {name: _without_padding(factors, view) for name, factors in wide.items()}
        return ServerUpdate(self.fresh(view.state, view.index + 1), increments)

    def start(self, state: AdapterState) -> AdapterState:
        """Adapters of round 0."""
        return self.fresh(state, 0)

    def fresh(self, like: AdapterState, round_index: int) -> AdapterState:
        """Adapters that change nothing yet: ``B = 0``, ``A`` uniform in ``+-init_scale / sqrt(fan_in)``."""
        layers: dict[str, LoRAFactors] = {}
        for index, (name, factors) in enumerate(like.layers.items()):
            rng = self.streams.generator("adapter-fresh", round_index, index)
            bound = self.init_scale / factors.a.shape[-1] ** 0.5
            a = torch.from_numpy(rng.uniform(-bound, bound, tuple(factors.a.shape))).to(factors.a)
            layers[name] = LoRAFactors(a, torch.zeros_like(factors.b))
        return AdapterState(layers, like.scaling)

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The fresh adapters, cut; what a device trained is in the base."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """All stacked factors, whatever the participant's own rank."""
        return increment_tensors(update.base_increment)


def increment_tensors(increments: Mapping[str, Increment]) -> dict[str, Tensor]:
    """What is sent to change the base, by name: both factors, or the dense matrix."""
    tensors: dict[str, Tensor] = {}
    for name, increment in increments.items():
        if isinstance(increment, LoRAFactors):
            tensors |= {f"base.{name}.a": increment.a, f"base.{name}.b": increment.b}
        else:
            tensors[f"base.{name}"] = increment
    return tensors


def _without_padding(wide: LoRAFactors, view: AdapterView) -> LoRAFactors:
    """The components that some device really has."""
    ranks = view.participants.ranks
    own = rank_mask(wide.rank // ranks.shape[0], ranks).flatten()
    return LoRAFactors(wide.a[own], wide.b[:, own])
