"""Averaging factor by factor: PS (FedIT), Zero-Padding, HetLoRA and RBLA."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.errors import UntrainedError
from airsim.learn.adapter_stack import AdapterStack, cut, rank_mask
from airsim.learn.corrections import TailDecay
from airsim.learn.operators.adapter_operator import (
    AdapterState,
    AdapterView,
    give_up_ranks,
    mean_factors,
    mean_of_present,
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

AdapterUpdate = ServerUpdate[AdapterState]


class AbstractFactorAveraging(AbstractAggregationOperator[AdapterStack, AdapterState]):
    """Both factors are trained and sent; the server's common adapter goes back, cut to each device's rank."""

    sends: Sends

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """Both factors, always."""
        return everywhere(state.layers, Live.BOTH)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """Both factors of each device, or their change."""
        return send_factors(before, after, view, everywhere(view.state.layers, Live.BOTH), self.sends)

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The common adapter, cut; nothing of a device's own but its rank."""
        return spread(state, kept.ranks)

    def downlink(self, update: AdapterUpdate, view: AdapterView, row: int) -> dict[str, Tensor]:
        """Both factors at the participant's rank."""
        return sent_down(update.state.layers, everywhere(update.state.layers, Live.BOTH), view, row)


@final
@dataclass(frozen=True)
class FactorAveraging(AbstractFactorAveraging):
    r"""PS: :math:`P = \sum_k p_k B_k` and :math:`Q = \sum_k p_k A_k`; the update is :math:`PQ`.

    Noise of the air enters as a product: ``(P + N_B)(Q + N_A)``. Source: [Chen25], [FedIT] with weights by
    data.
    """

    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """One weighted sum."""
        return OnAir.LINEAR

    def admit(self, view: AdapterView) -> None:
        """Devices of the common rank only."""
        require_common_rank(view, "factor averaging (PS, FedIT)")

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> AdapterUpdate:
        """The means of both factors."""
        self.admit(view)
        live = everywhere(view.state.layers, Live.BOTH)
        layers = mean_factors(received, view, live, self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))


@final
@dataclass(frozen=True)
class ZeroPadding(AbstractFactorAveraging):
    """The mean of both factors, padded with zeros: high ranks are diluted. Source: [HetLoRA]."""

    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """One weighted sum of padded vectors, with known ranks."""
        return OnAir.MASKED

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> AdapterUpdate:
        """The zero-padded means."""
        live = everywhere(view.state.layers, Live.BOTH)
        layers = mean_factors(received, view, live, self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))


@final
@dataclass(frozen=True)
class RBLA(AbstractFactorAveraging):
    """Rank-based averaging: a component's mean goes over the devices that have it. Source: [RBLA].

    A component that no participant has stays as it was.
    """

    sends: Sends = "change"

    @property
    def on_air(self) -> OnAir:
        """One weighted sum of padded vectors, divided by the known weight behind each component."""
        return OnAir.MASKED

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> AdapterUpdate:
        """The means over those present."""
        live = everywhere(view.state.layers, Live.BOTH)
        layers = mean_of_present(received, view, live, self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))


@final
@dataclass(frozen=True)
class HetLoRA(AbstractFactorAveraging):
    r"""The zero-padded mean, weighted by the size of each product, and ranks that shrink. Source: [HetLoRA].

    .. math:: q_k = \|B_k A_k\|_F \Big/ \sum_j \|B_j A_j\|_F

    with one norm per device over all its layers; data sizes do not count. The tail is what lies beyond the
    first ``floor(kept_share r_k)`` components (at least one stays); `tail_penalty` presses on it in training
    with the weight `tail_weight`, and a device drops it where the product of its two norms has shrunk. The
    control channel carries the norm, and the rank, which only its device knows.
    """

    sends: Sends = "change"
    kept_share: float = 0.99
    tail_weight: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.kept_share <= 1:
            raise ValueError(f"kept_share = {self.kept_share}: give a share above 0 and up to 1")
        if not self.tail_weight >= 0:
            raise ValueError(f"tail_weight = {self.tail_weight}: give 0 or a positive lambda")

    @property
    def on_air(self) -> OnAir:
        """One weighted sum, after one scalar per device."""
        return OnAir.MASKED

    def local_term(self, before: AdapterStack, devices: Sequence[int]) -> TailDecay:
        """The gradient of `tail_penalty`; what is tail stays the same for the whole round."""
        heads = head_ranks(before, self.kept_share).tolist()
        return TailDecay(self.tail_weight, dict(zip(devices, heads, strict=True)))

    def finish_locally(self, before: AdapterStack, after: AdapterStack, state: AdapterState) -> AdapterStack:
        """Ranks cut where the tail has shrunk since the broadcast."""
        heads = head_ranks(after, self.kept_share)
        shrunk = (tail_norms(after, heads) < tail_norms(before, heads)).to(heads.device)
        if not bool(shrunk.any()):
            return after
        return give_up_ranks(after, torch.where(shrunk, heads, after.ranks), state)

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """Both factors, the norm of the product, and the rank that is left."""
        live = everywhere(view.state.layers, Live.BOTH)
        sent = send_factors(before, after, view, live, self.sends)
        norms = product_norms(after)
        return Transmission(sent.payload, sent.sent, torch.stack([norms, after.ranks.to(norms)], dim=1))

    def control_reals(self, state: AdapterState, device: int) -> int:
        """A norm and a rank."""
        return 2

    def air_weights(self, control: Float[Tensor, "K 2"], view: AdapterView) -> Float[Tensor, "K"]:
        """``q_k``; refused where all products are 0, as before any training."""
        norms = control[:, 0].to(view.participants.weights)
        if not float(norms.sum()) > 0:
            raise UntrainedError(
                f"round {view.index}: all products B_k A_k are 0: HetLoRA has no weights before devices have "
                "learned something. Raise learning.learning_rate"
            )
        return norms / norms.sum()

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> AdapterUpdate:
        """The zero-padded means."""
        live = everywhere(view.state.layers, Live.BOTH)
        layers = mean_factors(received, view, live, self.sends)
        return ServerUpdate(AdapterState(layers, view.state.scaling))


def product_norms(stack: AdapterStack) -> Float[Tensor, "K"]:
    """``||B_k A_k||_F`` over all layers, from two small Gram matrices per layer."""
    squares = [((f.b.mT @ f.b) * (f.a @ f.a.mT)).sum(dim=(1, 2)) for f in stack.layers.values()]
    # Rounding can leave a zero product a little below zero.
    return torch.stack(squares).sum(dim=0).clamp(min=0).sqrt()


def head_ranks(stack: AdapterStack, kept_share: float) -> Tensor:
    """Ranks without their tails, at least one."""
    return (kept_share * stack.ranks.double()).floor().long().clamp(min=1)


def tail_norms(stack: AdapterStack, heads: Tensor) -> Float[Tensor, "K"]:
    """``||tail of B_k||_F ||tail of A_k||_F``, summed over layers: what HetLoRA watches, and penalises."""
    norms = []
    for factors in stack.layers.values():
        tail = cut(factors, ~rank_mask(factors.rank, heads))
        norms.append(tail.a.flatten(1).norm(dim=1) * tail.b.flatten(1).norm(dim=1))
    return torch.stack(norms).sum(dim=0)


def tail_penalty(stack: AdapterStack, kept_share: float, strength: float) -> Float[Tensor, "K"]:
    """The term of each device's local loss that makes tails small: `strength` times `tail_norms`.

    Training adds its gradient, `learn.corrections.TailDecay`.
    """
    return strength * tail_norms(stack, head_ranks(stack, kept_share))
