"""LoRA-A2: factors take turns, and each device sends only the components that changed most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
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
)
from airsim.learn.operators.alternating import Parity, alternate
from airsim.learn.operators.base import AbstractAggregationOperator, OnAir, ServerUpdate, Transmission
from airsim.learn.operators.payload import Live, LiveLayers, everywhere, flatten_live


@final
@dataclass(frozen=True)
class LoRAA2(AbstractAggregationOperator[AdapterStack, AdapterState]):
    r"""Every device holds the full rank and sends the change of its most important components only.

    `budgets` are components per layer and device, by number of the device; they are spent over all layers
    together. The importance of component i of a layer is the size of its change,

    .. math:: \|\Delta B_{:,i}\| \, \|A_{i,:}\| \quad\text{or}\quad \|B_{:,i}\| \, \|\Delta A_{i,:}\|

    (our reading: the paper's exact score could not be checked). What is not sent counts as no change, so the
    mean is over all participants. Indices go over the control channel. Source: [LoRA-A2].
    """

    budgets: tuple[int, ...]
    b_rounds: Parity = "even"

    def __post_init__(self) -> None:
        for device, budget in enumerate(self.budgets):
            if budget < 1:
                raise ValueError(
                    f"budgets[{device}] = {budget}: a device sends at least 1 component per layer"
                )

    @property
    def on_air(self) -> OnAir:
        """One weighted sum, with known masks."""
        return OnAir.MASKED

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """By the parity of the round."""
        return everywhere(state.layers, alternate(self.b_rounds, round_index))

    def admit(self, view: AdapterView) -> None:
        """Devices of the common rank only, and with a budget."""
        require_common_rank(view, "LoRA-A2 (give unequal budgets instead of ranks)")
        last = max(view.participants.devices)
        if last >= len(self.budgets):
            raise ValueError(
                f"device {last} takes part and there are {len(self.budgets)} budgets: "
                "give one for every device"
            )

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The change of the selected components, and their numbers counted through all layers."""
        live = self.live(view.state, view.index)
        whole = send_factors(before, after, view, live, "change")
        budgets = [self.budgets[device] for device in view.participants.devices]
        chosen = select(importance(before, after, alternate(self.b_rounds, view.index)), budgets, view)
        sent = _entries(chosen, after, live)
        return Transmission(whole.payload.masked_fill(~sent, 0.0), sent, _indices(chosen, whole.payload))

    def control_reals(self, state: AdapterState, device: int) -> int:
        """One number per component that it sends."""
        components = sum(factors.rank for factors in state.layers.values())
        return min(self.budgets[device] * len(state.layers), components)

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The mean change, added to the live factor."""
        self.admit(view)
        layers = mean_factors(received, view, self.live(view.state, view.index), "change")
        return ServerUpdate(AdapterState(layers, view.state.scaling))

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The common adapter."""
        return spread(state, kept.ranks)

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """The live factor in full."""
        return sent_down(update.state.layers, self.live(view.state, view.index), view, row)


def importance(before: AdapterStack, after: AdapterStack, live: Live) -> Float[Tensor, "K C"]:
    """Size of the change of every rank-1 component, layers one after the other."""
    scores = []
    for name, old in before.layers.items():
        new = after.layers[name]
        if live is Live.B:
            scores.append((new.b - old.b).norm(dim=1) * old.a.norm(dim=2))
        else:
            scores.append(old.b.norm(dim=1) * (new.a - old.a).norm(dim=2))
    return torch.cat(scores, dim=1)


def select(scores: Float[Tensor, "K C"], budgets: Sequence[int], view: AdapterView) -> Bool[Tensor, "K C"]:
    """The components with the largest scores, budget times layers of them; equal ones by their number."""
    order = scores.sort(dim=1, descending=True, stable=True).indices
    allowed = torch.tensor(budgets, device=scores.device) * len(view.state.layers)
    places = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, places < allowed.unsqueeze(-1))


def _entries(chosen: Bool[Tensor, "K C"], stack: AdapterStack, live: LiveLayers) -> Bool[Tensor, "K D"]:
    masks = {}
    ranks = [factors.rank for factors in stack.layers.values()]
    for (name, factors), mask in zip(stack.layers.items(), chosen.split(ranks, dim=1), strict=True):
        own = mask.to(factors.a.dtype)
        a = own.unsqueeze(-1).expand(factors.a.shape)
        masks[name] = LoRAFactors(a, own.unsqueeze(-2).expand(factors.b.shape))
    return flatten_live(masks, live) > 0


def _indices(chosen: Bool[Tensor, "K C"], like: Float[Tensor, "K D"]) -> Float[Tensor, "K c"]:
    """Numbers of the chosen components, filled up with NaN."""
    numbers = [row.nonzero().flatten().to(like.dtype) for row in chosen]
    return torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=float("nan"))
