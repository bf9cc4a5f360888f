"""Trained heads beside adapters that a method averages: entries of the payload, or kept by the device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.heads import HEAD
from airsim.learn.operators.adapter_operator import AdapterState, AdapterView
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import Live, LiveLayers


@dataclass(frozen=True)
class AbstractWithHeads(AbstractAggregationOperator[AdapterStack, AdapterState]):
    """A linear or masked method on adapters that never sees the layer of heads.

    A device trains its task's head and leaves the others as it received them.
    """

    method: AbstractAggregationOperator[AdapterStack, AdapterState]

    @property
    def on_air(self) -> OnAir:
        """That of the method: a mean of heads is a weighted sum."""
        return self.method.on_air

    def admit(self, view: AdapterView) -> None:
        """Whom the method admits."""
        self.method.admit(_bare_view(view))

    def live(self, state: AdapterState, round_index: int) -> LiveLayers:
        """What the method trains, and the heads."""
        return {**self.method.live(_bare(state), round_index), HEAD: Live.A}

    def start(self, state: AdapterState) -> AdapterState:
        """The heads as they are given."""
        return _with(self.method.start(_bare(state)), state.layers[HEAD])

    def finish_locally(self, before: AdapterStack, after: AdapterStack, state: AdapterState) -> AdapterStack:
        """The heads as they were trained."""
        own = self.method.finish_locally(_bare_stack(before), _bare_stack(after), _bare(state))
        return _with_stack(own, after.layers[HEAD])

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The method's payload."""
        return self.method.encode(_bare_stack(before), _bare_stack(after), _bare_view(view))

    def control_reals(self, state: AdapterState, device: int) -> int:
        """What the method says."""
        return self.method.control_reals(_bare(state), device)

    def air_weights(self, control: Float[Tensor, "K C"], view: AdapterView) -> Float[Tensor, "K"]:
        """The method's weights."""
        return self.method.air_weights(control, _bare_view(view))

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """What the method sends."""
        return self.method.downlink(_bare_update(update), _bare_view(view), row)

    def on_downlink(
        self, update: ServerUpdate[AdapterState], view: AdapterView, largest_rank: int
    ) -> dict[str, Tensor]:
        """The same once for all."""
        return self.method.on_downlink(_bare_update(update), _bare_view(view), largest_rank)


@final
@dataclass(frozen=True)
class WithCommonHeads(AbstractWithHeads):
    r"""FedAvg on the heads of all tasks, behind the method's payload.

    .. math:: h \leftarrow \sum_k p_k h_k

    Devices of other tasks send a head as they received it, so that it moves by its task's share of the
    weights.
    """

    sends: Sends

    def encode(self, before: AdapterStack, after: AdapterStack, view: AdapterView) -> Transmission:
        """The method's payload, then the heads of all tasks or their change."""
        own = super().encode(before, after, view)
        heads = after.layers[HEAD].a.flatten(1)
        if self.sends == "change":
            heads = heads - before.layers[HEAD].a.flatten(1)
        sent = torch.ones_like(heads, dtype=torch.bool)
        return Transmission(torch.cat((own.payload, heads), 1), torch.cat((own.sent, sent), 1), own.control)

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The method's step, and the mean of the heads."""
        old = view.state.layers[HEAD]
        adapters, heads = received.split([len(received) - old.a.numel(), old.a.numel()])
        mean = heads.view_as(old.a)
        if self.sends == "change":
            mean = mean + old.a * view.participants.weights.sum().to(old.a)
        update = self.method.decode(adapters, _bare_view(view))
        return replace(update, state=_with(update.state, LoRAFactors(mean, old.b)))

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The method's adapters beside the heads of all tasks."""
        own = self.method.broadcast(_bare(state), _bare_stack(kept), devices)
        return _with_stack(own, state.layers[HEAD].expand(own.num_devices))

    def downlink(self, update: ServerUpdate[AdapterState], view: AdapterView, row: int) -> dict[str, Tensor]:
        """What the method sends, and the heads of all tasks."""
        return super().downlink(update, view, row) | {HEAD: update.state.layers[HEAD].a}

    def on_downlink(
        self, update: ServerUpdate[AdapterState], view: AdapterView, largest_rank: int
    ) -> dict[str, Tensor]:
        """The same once for all."""
        return super().on_downlink(update, view, largest_rank) | {HEAD: update.state.layers[HEAD].a}


@final
@dataclass(frozen=True)
class WithPersonalHeads(AbstractWithHeads):
    """Heads that never leave their devices; those of the state are where new devices start."""

    def decode(self, received: Float[Tensor, "D"], view: AdapterView) -> ServerUpdate[AdapterState]:
        """The method's step."""
        update = self.method.decode(received, _bare_view(view))
        return replace(update, state=_with(update.state, view.state.layers[HEAD]))

    def broadcast(self, state: AdapterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The method's adapters beside the heads that each device kept."""
        own = self.method.broadcast(_bare(state), _bare_stack(kept), devices)
        return _with_stack(own, kept.layers[HEAD])


def _bare(state: AdapterState) -> AdapterState:
    return AdapterState({n: f for n, f in state.layers.items() if n != HEAD}, state.scaling)


def _bare_stack(stack: AdapterStack) -> AdapterStack:
    return AdapterStack({n: f for n, f in stack.layers.items() if n != HEAD}, stack.ranks)


def _bare_view(view: AdapterView) -> AdapterView:
    return replace(view, state=_bare(view.state))


def _bare_update(update: ServerUpdate[AdapterState]) -> ServerUpdate[AdapterState]:
    return replace(update, state=_bare(update.state))


def _with(state: AdapterState, heads: LoRAFactors) -> AdapterState:
    return AdapterState({**state.layers, HEAD: heads}, state.scaling)


def _with_stack(stack: AdapterStack, heads: LoRAFactors) -> AdapterStack:
    return AdapterStack({**stack.layers, HEAD: heads}, stack.ranks)
