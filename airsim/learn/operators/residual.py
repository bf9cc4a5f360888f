"""Averaged factors and a repair of what the average loses: FedEx-LoRA and LoRA-FAIR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import (
    AdapterState,
    AdapterView,
    mean_factors,
    require_common_rank,
    send_factors,
    sent_down,
    spread,
    uploaded,
)
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    Increment,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.factor_stacking import increment_tensors
from airsim.learn.operators.payload import Live, LiveLayers, everywhere
from airsim.learn.operators.products import (
    Route,
    class_of_route,
    dense_mean,
    dense_size,
    send_products,
    weighted_products,
)


class AbstractRepair(AbstractAggregationOperator[AdapterStack, AdapterState]):
    """Needs the mean of the factors and the mean product; on the dense route both are superposed."""

    route: Route
    sends: Sends

    @property
    def on_air(self) -> OnAir:
        """Every upload, or one sum of dense products and factors."""
        return class_of_route(self.route)

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """Both factors, always."""
        return everywhere(state.layers, Live.BOTH)

    def admit(self, view: AdapterView) -> None:
        """Devices of the common rank only."""
        require_common_rank(view, type(self).__name__)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The factors, on the dense route behind the products."""
        live = everywhere(view.state.layers, Live.BOTH)
        factors = send_factors(before, after, view, live, self.sends)
        if self.route == "orthogonal":
            return factors
        dense = send_products(before, after, view, self.sends, self.route)
        payload, sent = (
            torch.cat(pair, dim=1) for pair in ((dense.payload, factors.payload), (dense.sent, factors.sent))
        )
        return Transmission(payload, sent, factors.control)

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The common adapter."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """Both factors, and the increment of the base if there is one."""
        live = everywhere(update.state.layers, Live.BOTH)
        return sent_down(update.state.layers, live, view, row) | increment_tensors(update.base_increment)

    def dense_sums(
        self, total: Float[Tensor, "D"], view: AdapterView
    ) -> tuple[dict[str, LoRAFactors], Mapping[str, Tensor]]:
        """Mean factors and mean product of the dense route."""
        size = dense_size(view.state.layers)
        live = everywhere(view.state.layers, Live.BOTH)
        return (
            mean_factors(total[size:], view, live, self.sends),
            dense_mean(total[:size], view, self.sends),
        )


@final
@dataclass(frozen=True)
class FedExLoRA(AbstractRepair):
    r"""The means of both factors, and the residual added to the frozen base: exact.

    .. math:: W_0 \leftarrow W_0 + g \sum_k p_k (B_k - \bar B)(A_k - \bar A)

    The residual has rank ``(m - 1) r`` at most; it is sent as factors where they are fewer numbers than the
    matrix. Source: [FedEx].
    """

    route: Route = "orthogonal"
    sends: Sends = "change"

    def decode(self, received: Float[Tensor, "*rows D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """Mean factors and residual."""
        self.admit(view)
        increments: dict[str, Increment]
        if self.route == "dense":
            means, products = self.dense_sums(received, view)
            increments = {
                name: products[name] - view.state.scale(name) * (mean.b @ mean.a)
                for name, mean in means.items()
            }
        else:
            live = everywhere(view.state.layers, Live.BOTH)
            single = uploaded(received, view, live, self.sends)
            means = mean_of_rows(single, view)
            increments = {
                name: smaller(residual(single[name], means[name], view, name))
                for name in means
                if len(view.participants.devices) > 1
            }
        return ServerUpdate(AdapterState(means, view.state.scaling), increments)


@final
@dataclass(frozen=True)
class LoRAFAIR(AbstractRepair):
    r"""``A`` averaged, ``B`` averaged and corrected towards the mean product.

    .. math:: \Delta B = \arg\min S\big(D, (\bar B + \Delta B)\bar A\big) + \lambda\|\Delta B\|^2, \qquad
              D = \textstyle\sum_k p_k B_k A_k

    with S one minus the cosine, minimised by `steps` of gradient descent from 0, or the squared distance,
    minimised in closed form. The common scale stands on both sides and is left out. Source: [LoRA-FAIR].
    """

    distance: Literal["cosine", "squared"] = "cosine"
    strength: float = 0.01
    steps: int = 1000
    learning_rate: float = 0.01
    route: Route = "orthogonal"
    sends: Sends = "change"

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"strength = {self.strength}: the correction needs a positive penalty lambda")

    def decode(self, received: Float[Tensor, "*rows D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """Mean factors with B corrected."""
        self.admit(view)
        if self.route == "dense":
            means, products = self.dense_sums(received, view)
        else:
            live = everywhere(view.state.layers, Live.BOTH)
            single = uploaded(received, view, live, self.sends)
            wide = weighted_products(single, view)
            means = mean_of_rows(single, view)
            products = {name: factors.b @ factors.a for name, factors in wide.items()}
        layers = {}
        for name, mean in means.items():
            correction = self.correction(products[name] / view.state.scale(name), mean)
            layers[name] = LoRAFactors(mean.a, mean.b + correction)
        return ServerUpdate(AdapterState(layers, view.state.scaling))

    def correction(self, ideal: Float[Tensor, "O I"], mean: LoRAFactors) -> Float[Tensor, "O R"]:
        """``Delta B`` of one layer."""
        if self.distance == "squared":
            return nearest_correction(ideal, mean, self.strength)
        gram, target, length = mean.a @ mean.a.mT, ideal @ mean.a.mT, ideal.norm()
        step = torch.zeros_like(mean.b)
        for _ in range(self.steps):
            slope = cosine_slope(target, length, mean.b + step, gram) + 2 * self.strength * step
            step = step - self.learning_rate * slope
        return step


def nearest_correction(
    ideal: Float[Tensor, "O I"], mean: LoRAFactors, strength: float
) -> Float[Tensor, "O R"]:
    r""":math:`(D - \bar B\bar A)\bar A^T(\bar A\bar A^T + \lambda I)^{-1}`: no slope is left."""
    missing = (ideal - mean.b @ mean.a) @ mean.a.mT
    gram = mean.a @ mean.a.mT + strength * torch.eye(mean.rank, dtype=mean.a.dtype, device=mean.a.device)
    return torch.linalg.solve(gram, missing.mT).mT


def cosine_slope(
    target: Float[Tensor, "O R"],
    length: Float[Tensor, ""],
    b: Float[Tensor, "O R"],
    gram: Float[Tensor, "R R"],
) -> Float[Tensor, "O R"]:
    r"""Gradient of ``1 - cos(D, B A)`` with respect to B; 0 where either matrix is 0 and no angle exists.

    .. math:: \Big(\frac{\langle T, B\rangle}{\|BA\|^2}\,BG - T\Big) \Big/ (\|D\|\,\|BA\|)

    with ``T = D A^T``, ``G = A A^T`` and ``||BA||^2 = <BG, B>``, so that no step meets a matrix of the
    layer's size. `length` is ``||D||``.
    """
    turned = b @ gram
    square = (turned * b).sum()
    slope = ((target * b).sum() / square * turned - target) / (length * square.sqrt())
    # A choice by Python would wait for the device in every step.
    return torch.where(length * square > 0, slope, torch.zeros_like(b))


def mean_of_rows(single: Mapping[str, LoRAFactors], view: AdapterView) -> dict[str, LoRAFactors]:
    """Weighted means of factors that arrived one by one."""
    means = {}
    for name, factors in single.items():
        weights = view.participants.weights.to(factors.a)
        means[name] = LoRAFactors(*(torch.tensordot(weights, x, dims=1) for x in (factors.a, factors.b)))
    return means


def residual(single: LoRAFactors, mean: LoRAFactors, view: AdapterView, name: str) -> LoRAFactors:
    """The residual in ``m - 1`` blocks: weighted deviations of B add up to 0, so one drops out."""
    weight = (view.participants.weights * view.state.scale(name)).to(mean.b)[:, None, None]
    b = (weight * (single.b - mean.b))[:-1]
    a = (single.a - single.a[-1])[:-1]
    return LoRAFactors(a.flatten(end_dim=1), b.transpose(0, 1).flatten(start_dim=1))


def smaller(factors: LoRAFactors) -> Increment:
    """The factors, or their product where that is fewer numbers."""
    full = factors.b.shape[-2] * factors.a.shape[-1]
    return factors if factors.size <= full else factors.b @ factors.a
