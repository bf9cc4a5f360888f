"""Averaging the products and cutting the mean back to rank: SP, FlexLoRA, and SP without the base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import AdapterState, AdapterView, sent_down, spread, uploaded
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import Live, LiveLayers, everywhere
from airsim.learn.operators.products import (
    Route,
    Split,
    best_rank,
    class_of_route,
    dense_mean,
    send_products,
    weighted_products,
)


class AbstractProductAveraging(AbstractAggregationOperator[AdapterStack, AdapterState]):
    """Both factors are trained; the server's factors go back, cut to each device's rank."""

    split: Split
    route: Route
    sends: Sends

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

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """Device k holds ``B = U_{r_k} S_{r_k} / g_k`` and ``A = V_{r_k}^T``."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """Both factors at the participant's rank."""
        return sent_down(update.state.layers, everywhere(update.state.layers, Live.BOTH), view, row)

    def mean_product(
        self, received: Float[Tensor, "*rows D"], view: AdapterView
    ) -> Mapping[str, LoRAFactors | Tensor]:
        """``sum p_k g_k B_k A_k``, wide or dense."""
        if self.route == "dense":
            return dense_mean(received, view, self.sends)
        live = everywhere(view.state.layers, Live.BOTH)
        return weighted_products(uploaded(received, view, live, self.sends), view)


@final
@dataclass(frozen=True)
class ProductAveraging(AbstractProductAveraging):
    r"""SP and FlexLoRA: the best approximation of :math:`\sum_k p_k g_k B_k A_k`, the frozen base kept.

    .. math:: U S V^T = \sum_k p_k g_k B_k A_k,\qquad B = U_r S_r / g,\quad A = V_r^T

    `split` "even" puts the root of S on both sides: the same product, other training. Source: [FlexLoRA],
    [Chen25].
    """

    split: Split = "left"
    route: Route = "orthogonal"
    sends: Sends = "change"

    def decode(self, received: Float[Tensor, "*rows D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The truncated mean product."""
        means = self.mean_product(received, view)
        return ServerUpdate(_truncated(means, view.state, self.split))


@final
@dataclass(frozen=True)
class BaseDroppingAveraging(AbstractProductAveraging):
    """SP with the base inside: the first round truncates ``W_0`` plus the mean product and sets ``W_0`` to 0.

    Later rounds truncate the mean product alone, so that everything beyond rank r is lost. This is no
    published definition but the reading under which SP collapses at small rank as in Table 2 of [Chen25].
    """

    base: Mapping[str, Float[Tensor, "O_ I_"]]
    split: Split = "left"
    route: Route = "orthogonal"
    sends: Sends = "change"

    def decode(self, received: Float[Tensor, "*rows D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The truncated mean product, in round 0 together with the base."""
        means = self.mean_product(received, view)
        if view.index > 0:
            return ServerUpdate(_truncated(means, view.state, self.split))
        full = {name: self.base[name] + _dense(mean) for name, mean in means.items()}
        return ServerUpdate(_truncated(full, view.state, self.split), keeps_base=False)


def _dense(product: LoRAFactors | Tensor) -> Tensor:
    return product.b @ product.a if isinstance(product, LoRAFactors) else product


def _truncated(
    products: Mapping[str, LoRAFactors | Tensor], state: AdapterState, split: Split
) -> AdapterState:
    layers = {}
    for name, product in products.items():
        scale = state.scale(name)
        unscaled = (
            LoRAFactors(product.a, product.b / scale) if isinstance(product, LoRAFactors) else product / scale
        )
        layers[name] = best_rank(unscaled, state.layers[name].rank, split)
    return AdapterState(layers, state.scaling)
