"""What methods on adapters share: one scale for all, what is sent, the mean, what a device then holds.

Factors of devices whose scales differ cannot be averaged as they are: component i of a device is worth ``g_k
b_i a_i``. ``B`` therefore travels as ``(g_k / g) B_k``, with g of the padded rank, and comes back divided by
it; with equal scales this is the plain factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapter_stack import AbstractScaling, AdapterStack, stack_common
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.base import RoundView, Sends, Transmission
from airsim.learn.operators.payload import (
    LiveLayers,
    coverage,
    flatten_change,
    flatten_live,
    place,
    sent_entries,
)


@dataclass(frozen=True)
class AdapterState:
    """The adapter that all have in common, of padded rank, and the rule that scales it."""

    layers: Mapping[str, LoRAFactors]
    scaling: AbstractScaling

    def scale(self, name: str) -> float:
        """``g`` of the common adapter in one layer."""
        return float(self.scaling.of(torch.tensor(self.layers[name].rank)))


AdapterView = RoundView[AdapterState]


def spread(state: AdapterState, ranks: Int[Tensor, "K"]) -> AdapterStack:
    """The common adapter at each device: its first ``r_k`` components, and ``B`` scaled for the device."""
    return _scaled(stack_common(state.layers, ranks), state, -1)


def folded(stack: AdapterStack, state: AdapterState) -> AdapterStack:
    """The devices' adapters with ``B`` as it travels: ``(g_k / g) B_k``."""
    return _scaled(stack, state, 1)


def send_factors(
    before: AdapterStack, after: AdapterStack, view: AdapterView, live: LiveLayers, sends: Sends
) -> Transmission:
    """The live factors of devices, or their change since the last broadcast, padded to one length."""
    require_known_ranks(after, view)
    trained = folded(after, view.state).layers
    if sends == "change":
        held = folded(before, view.state)
        if not torch.equal(before.ranks, after.ranks):
            # Beyond a rank that was just given up nothing is sent, not even the way back to 0.
            held = held.truncate(after.ranks)
        payload = flatten_change(trained, held.layers, live)
    else:
        payload = flatten_live(trained, live)
    return Transmission(payload, sent_entries(after, live), no_control(payload))


def mean_factors(
    total: Float[Tensor, "D"], view: AdapterView, live: LiveLayers, sends: Sends
) -> dict[str, LoRAFactors]:
    r"""The zero-padded weighted mean :math:`\sum_k p_k x_k` from its noisy total; dead factors stay."""
    return place(_mean_entries(total, view, live, sends), view.state.layers, live)


def mean_of_present(
    total: Float[Tensor, "D"], view: AdapterView, live: LiveLayers, sends: Sends
) -> dict[str, LoRAFactors]:
    r"""The weighted mean over the devices that have an entry; where nobody has it, it stays.

    .. math:: \sum_{k: r_k > i} p_k x_k[i] \Big/ \sum_{k: r_k > i} p_k
    """
    share = _coverage(view, live)
    entries = _mean_entries(total, view, live, sends)
    old = flatten_live(view.state.layers, live)
    mean = torch.where(share > 0, entries / share.where(share > 0, torch.ones_like(share)), old)
    return place(mean, view.state.layers, live)


def uploaded(
    received: Float[Tensor, "K D"], view: AdapterView, live: LiveLayers, sends: Sends
) -> dict[str, LoRAFactors]:
    """The single devices' factors as they travel, where each payload arrived on its own."""
    held = spread(view.state, view.participants.ranks)
    rows = received
    if sends == "change":
        rows = received + flatten_live(folded(held, view.state).layers, live)
    return place(rows, held.layers, live)


def sent_down(
    layers: Mapping[str, LoRAFactors], live: LiveLayers, view: AdapterView, row: int
) -> dict[str, Tensor]:
    """The live factors as one participant receives them: its first ``r_k`` components."""
    rank = view.participants.ranks[row : row + 1]
    held = spread(AdapterState(layers, view.state.scaling), rank).of_device(0)
    return named(held, live)


def named(layers: Mapping[str, LoRAFactors], live: LiveLayers) -> dict[str, Tensor]:
    """The live factors under names such as ``layer0.a``."""
    tensors = {}
    for name, factors in layers.items():
        for factor in live[name]:
            letter = str(factor.name).lower()
            tensors[f"{name}.{letter}"] = getattr(factors, letter)
    return tensors


def no_control(payload: Float[Tensor, "K D"]) -> Float[Tensor, "K 0"]:
    """Nothing on the control channel."""
    return payload.new_zeros(payload.shape[0], 0)


def give_up_ranks(stack: AdapterStack, ranks: Int[Tensor, "K"], state: AdapterState) -> AdapterStack:
    """Devices cut to lower ranks for good; what remains of their updates stays as it is."""
    return _scaled(folded(stack, state).truncate(ranks), state, -1)


def require_known_ranks(stack: AdapterStack, view: AdapterView) -> None:
    """Refuse devices of other ranks than the server counts with."""
    if not torch.equal(stack.ranks, view.participants.ranks):
        raise ValueError(
            f"ranks of the devices are {stack.ranks.tolist()}, the server was told "
            f"{view.participants.ranks.tolist()}: announce ranks as they are after `finish_locally`"
        )


def require_common_rank(view: AdapterView, method: str) -> None:
    """Refuse mixed ranks where a method has no meaning for them."""
    padded = max(factors.rank for factors in view.state.layers.values())
    for row, rank in enumerate(view.participants.ranks.tolist()):
        if rank != padded:
            raise ValueError(
                f"participants.ranks[{row}] = {rank}, the common adapter has rank {padded}: {method} is not "
                "defined for mixed ranks; choose zero-padding, hetlora, rbla, flexlora or flora"
            )


def _scaled(stack: AdapterStack, state: AdapterState, power: int) -> AdapterStack:
    layers = {}
    for name, factors in stack.layers.items():
        ratio = state.scaling.of(stack.layer_ranks(name)) / state.scale(name)
        if bool((ratio == 1).all()):
            layers[name] = factors
            continue
        weight = (ratio**power).to(factors.b)[:, None, None]
        layers[name] = LoRAFactors(factors.a, factors.b * weight)
    return AdapterStack(layers, stack.ranks)


def _coverage(view: AdapterView, live: LiveLayers) -> Float[Tensor, "D"]:
    device = next(iter(view.state.layers.values())).a.device
    ranks, weights = view.participants.ranks.to(device), view.participants.weights.to(device)
    return coverage(view.state.layers, live, ranks, weights)


def _mean_entries(
    total: Float[Tensor, "D"], view: AdapterView, live: LiveLayers, sends: Sends
) -> Float[Tensor, "D"]:
    if sends == "factors":
        return total
    return total + flatten_live(view.state.layers, live) * _coverage(view, live)
