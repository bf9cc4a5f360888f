"""What every aggregation method states: train what, send what, combine how, broadcast what."""

import abc
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.corrections import AbstractCorrection
from airsim.learn.operators.payload import LiveLayers

Sends = Literal["change", "factors"]
# A matrix that is added to a frozen weight: in full, or as two factors with the scale inside.
Increment = LoRAFactors | Tensor

HeldT = TypeVar("HeldT")
StateT = TypeVar("StateT")


class OnAir(enum.Enum):
    """What of the uploads the server needs, and so whether one superposition can bring it."""

    LINEAR = "a weighted sum of one vector per device"
    MASKED = "a weighted sum, after known ranks, masks or one scalar per device"
    NONLINEAR = "every single upload"


@dataclass(frozen=True)
class Participants:
    """The devices of a round as the server knows them before any payload: weights, and ranks."""

    devices: tuple[int, ...]
    weights: Float[Tensor, "K"]
    ranks: Int[Tensor, "K"]

    def take(self, rows: Sequence[int]) -> "Participants":
        """Some of them, by place; their weights stay shares of the whole round."""
        chosen = list(rows)
        devices = tuple(self.devices[row] for row in chosen)
        return Participants(devices, self.weights[chosen], self.ranks[chosen])


@dataclass(frozen=True)
class RoundView(Generic[StateT]):
    """What both sides know while payloads travel: the last broadcast, who takes part, and the round."""

    index: int
    state: StateT
    participants: Participants

    def take(self, rows: Sequence[int]) -> "RoundView[StateT]":
        """The view of a chunk of the participants, by place."""
        return RoundView(self.index, self.state, self.participants.take(rows))


@dataclass(frozen=True)
class Transmission:
    """What devices send: one aligned vector each, which entries are truly sent, and control numbers.

    Entries that are not sent are 0. `control_reals` counts the used numbers of `control` per device.
    """

    payload: Float[Tensor, "K D"]
    sent: Bool[Tensor, "K D"]
    control: Float[Tensor, "K C"]

    @property
    def upload_reals(self) -> Int[Tensor, "K"]:
        """Payload entries that each device sends in a slot of its own."""
        return self.sent.sum(dim=1)

    @property
    def control_reals(self) -> Int[Tensor, "K"]:
        """Numbers that each device sends on the control channel; NaN fills up shorter lists."""
        return (~self.control.isnan()).sum(dim=1)


@dataclass(frozen=True)
class ServerUpdate(Generic[StateT]):
    """What a round ends with: the next state, and what everybody does to the frozen base.

    The base becomes 0 first where it is not kept; then the increments, which carry their scale, are added.
    """

    state: StateT
    base_increment: Mapping[str, Increment] = field(default_factory=dict)
    keeps_base: bool = True


class AbstractAggregationOperator(abc.ABC, Generic[HeldT, StateT]):
    """One method. `HeldT` is what some devices hold, `StateT` what the server holds in common for all.

    A round: ``before = broadcast(state, kept)``; the devices train what is live; ``after = finish_locally``;
    ``encode``; superpose with `air_weights`; ``decode``. A device keeps `after` for its next `broadcast`.
    """

    @property
    @abc.abstractmethod
    def on_air(self) -> OnAir:
        """What the server needs of the uploads, on the route that is chosen."""

    def admit(self, view: RoundView[StateT]) -> None:
        """Refuse, with a ValueError, participants for whom the method is not defined; `decode` asks again.

        For callers without a scenario, whose own checks refuse the same before anything is built.
        """

    @abc.abstractmethod
    def live(self, state: StateT, round_index: int) -> LiveLayers:
        """The factors of each adapted layer that are trained in a round; none where full weights are."""

    def local_term(self, before: HeldT, devices: Sequence[int]) -> AbstractCorrection | None:
        """What is added to the gradients of devices that train from `before`; nothing unless stated.

        `devices` are the numbers of what is stacked in `before`. Methods on full parameters have their terms
        in `learn.federated.local_terms`.
        """
        return None

    @abc.abstractmethod
    def encode(self, before: HeldT, after: HeldT, view: RoundView[StateT]) -> Transmission:
        """What these devices send; `view` may be that of a chunk."""

    @abc.abstractmethod
    def decode(self, received: Float[Tensor, "*rows D"], view: RoundView[StateT]) -> ServerUpdate[StateT]:
        """The server's step.

        `received` is one noisy weighted total, or with NONLINEAR one row per device; the weights in `view`
        are those that were superposed with.
        """

    @abc.abstractmethod
    def broadcast(self, state: StateT, kept: HeldT, devices: Sequence[int]) -> HeldT:
        """What devices hold once the state has reached them, given what they kept."""

    @abc.abstractmethod
    def downlink(self, update: ServerUpdate[StateT], view: RoundView[StateT], row: int) -> dict[str, Tensor]:
        """The tensors that the server truly sends to one participant, by name."""

    def start(self, state: StateT) -> StateT:
        """The state of the first round, from given adapters; some methods draw factors of their own."""
        return state

    def finish_locally(self, before: HeldT, after: HeldT, state: StateT) -> HeldT:
        """What devices make of their trained adapters before they send; nothing, unless a method says so."""
        return after

    def control_reals(self, state: StateT, device: int) -> int:
        """Numbers that a device tells on the control channel in each round, known before it trains.

        They are those of `Transmission.control`; what the radio needs to know of a payload comes on top.
        """
        return 0

    def air_weights(self, control: Float[Tensor, "K C"], view: RoundView[StateT]) -> Float[Tensor, "K"]:
        """The weights to superpose with, once the control channel has been heard; by data unless stated."""
        return view.participants.weights

    def on_downlink(
        self, update: ServerUpdate[StateT], view: RoundView[StateT], largest_rank: int
    ) -> dict[str, Tensor]:
        """What is sent once for all to hear, by name; `largest_rank` is that of all devices, absent ones too.

        It is what this rank needs unless a method says so: lower ranks cut theirs out of it, and scale it by
        their own ``g``. Who sits out hears it as well.
        """
        first = view.participants.take([0])
        listener = Participants(first.devices, first.weights, torch.tensor([largest_rank]))
        return self.downlink(update, RoundView(view.index, view.state, listener), 0)

    def broadcast_entries(
        self, update: ServerUpdate[StateT], view: RoundView[StateT], largest_rank: int
    ) -> int:
        """Numbers that a round's broadcast carries to devices up to this rank, counted from the tensors."""
        return sum(tensor.numel() for tensor in self.on_downlink(update, view, largest_rank).values())

    def broadcast_reals(self, update: ServerUpdate[StateT], view: RoundView[StateT]) -> Int[Tensor, "K"]:
        """Numbers that the server sends to each participant, counted from the tensors."""
        rows = range(len(view.participants.devices))
        sent = [self.downlink(update, view, row).values() for row in rows]
        return torch.tensor([sum(tensor.numel() for tensor in tensors) for tensors in sent])


def participants_of(
    data_sizes: Sequence[float], ranks: Sequence[int], devices: Sequence[int]
) -> Participants:
    """Participants weighted by their data: ``p_k = n_k / sum n`` over those who take part."""
    if len(set(devices)) < len(devices) or not devices:
        raise ValueError(f"devices = {tuple(devices)}: name at least one device, and each once")
    sizes = torch.tensor([data_sizes[device] for device in devices], dtype=torch.float64)
    if not bool((sizes > 0).all()):
        raise ValueError(f"data sizes of the participants are {sizes.tolist()}: each needs data")
    return Participants(tuple(devices), sizes / sizes.sum(), torch.tensor([ranks[k] for k in devices]))


def with_weights(view: RoundView[StateT], weights: Float[Tensor, "K"]) -> RoundView[StateT]:
    """The same round with the weights that payloads were really superposed with."""
    participants = view.participants
    return RoundView(view.index, view.state, Participants(participants.devices, weights, participants.ranks))


def aggregate(
    operator: AbstractAggregationOperator[HeldT, StateT],
    transmission: Transmission,
    view: RoundView[StateT],
) -> ServerUpdate[StateT]:
    """The server's step over an ideal air: only NONLINEAR operators see single uploads."""
    weighted = with_weights(view, operator.air_weights(transmission.control, view))
    if operator.on_air is OnAir.NONLINEAR:
        return operator.decode(transmission.payload, weighted)
    weights = weighted.participants.weights.to(transmission.payload)
    return operator.decode(weights @ transmission.payload, weighted)


def uplink_reals(on_air: OnAir, transmission: Transmission) -> int:
    """Real entries that a round's uplink carries: one vector's length, or all uploads one after the other.

    A complex symbol carries two. The control channel is counted apart (`Transmission.control_reals`).
    """
    if on_air is OnAir.NONLINEAR:
        return int(transmission.upload_reals.sum())
    return transmission.payload.shape[1]


def merge(base: Float[Tensor, "O I"], update: ServerUpdate[StateT], name: str) -> Float[Tensor, "O I"]:
    """A layer's frozen weight after the update; the one passed in is left as it is."""
    kept = base if update.keeps_base else torch.zeros_like(base)
    increment = update.base_increment.get(name)
    if increment is None:
        return kept
    full = increment.b @ increment.a if isinstance(increment, LoRAFactors) else increment
    return kept + full.to(base.dtype)
