"""What a round costs with a method that trains between uploads, counted before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.federated.base import AbstractLearner, weighted_view
from airsim.learn.operators.base import OnAir, RoundView, participants_of
from airsim.learn.operators.full_model import ModelStack
from airsim.orthogonal import symbols_of
from airsim.radio import num_symbols


@dataclass(frozen=True)
class RoundCosts:
    """Channel uses of round 0, and real numbers of the broadcasts that it begins and ends with."""

    channel_uses: int
    first_broadcast: int
    broadcast: int


def round_costs(
    learner: AbstractLearner[Any], data_sizes: list[int], participants: Sequence[int]
) -> RoundCosts:
    """Costs of a round of these devices in which everything that is sent has changed a little."""
    state, operator, devices = learner.start(), learner.operator, list(participants)
    held = state.held.take(devices)
    ranks = state.held.ranks.tolist() if isinstance(held, AdapterStack) else [1 for _ in data_sizes]
    view = RoundView(0, state.server, participants_of([float(size) for size in data_sizes], ranks, devices))
    sent = operator.encode(held, _moved(held), view)
    weighted = weighted_view(operator, sent, view)
    if operator.on_air is OnAir.NONLINEAR:
        uses, received = int(symbols_of(sent.sent).sum()), sent.payload
    else:
        uses = num_symbols(sent.payload.shape[1])
        received = weighted.participants.weights.to(sent.payload) @ sent.payload
    update = operator.decode(received, weighted)
    return RoundCosts(uses, learner.broadcast_entries(state), operator.broadcast_entries(update, weighted))


def _moved(held: AdapterStack | ModelStack) -> AdapterStack | ModelStack:
    """What devices would hold after a step that changes every entry."""
    if isinstance(held, ModelStack):
        parts = (held.parameters, held.private)
        return ModelStack(*({name: x + 1e-3 for name, x in part.items()} for part in parts))
    layers = {name: LoRAFactors(f.a + 1e-3, f.b + 1e-3) for name, f in held.layers.items()}
    return AdapterStack(layers, held.ranks).truncate(held.ranks)
