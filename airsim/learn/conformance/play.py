"""One round of an operator on an instance, seen from both sides: by the operator, and by the oracle."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.conformance.cases import AnyOperator, Case
from airsim.learn.conformance.definitions import Facts
from airsim.learn.conformance.instance import ALPHA, DATA_SIZES, PRESENT, RANK, Instance
from airsim.learn.conformance.oracle import Upload
from airsim.learn.operators.base import (
    RoundView,
    Sends,
    ServerUpdate,
    Transmission,
    aggregate,
    merge,
    participants_of,
)
from airsim.learn.operators.clustered import FedInc, one_cluster
from airsim.learn.operators.payload import Live
from airsim.learn.operators.products import Route


@dataclass(frozen=True)
class Round:
    """A round with four of five devices over an ideal air.

    `before` and `after` are the participants around their training, `kept` all devices after it, `held` what
    all devices start the next round with.
    """

    case: Case
    inst: Instance
    route: Route
    operator: AnyOperator
    view: RoundView[Any]
    before: AdapterStack
    after: AdapterStack
    sent: Transmission
    update: ServerUpdate[Any]
    kept: AdapterStack
    held: AdapterStack

    @cached_property
    def models(self) -> tuple[dict[str, np.ndarray], ...]:
        """The full weights with which each device computes after the round."""
        base = {name: merge(weight, self.update, name) for name, weight in self.inst.base.items()}
        models = []
        for device in range(self.inst.num_devices):
            scale = ALPHA / int(self.held.ranks[device])
            own = self.held.of_device(device)
            models.append({name: (base[name] + scale * f.b @ f.a).numpy() for name, f in own.items()})
        return tuple(models)

    @property
    def listeners(self) -> RoundView[Any]:
        """The round with all devices that hear its broadcast, those who sit out included."""
        everybody = participants_of(DATA_SIZES, self.kept.ranks.tolist(), range(self.inst.num_devices))
        return RoundView(self.view.index, self.view.state, everybody)

    @cached_property
    def facts(self) -> Facts:
        """The same round for the oracle."""
        live = next(iter(self.operator.live(self.view.state, self.view.index).values()))
        ranks = [int(rank) for rank in self.kept.ranks]
        return Facts(
            base={name: base.numpy() for name, base in self.inst.base.items()},
            common={name: (f.b.numpy(), f.a.numpy()) for name, f in self.inst.state.layers.items()},
            devices=uploads(self.after, self.view.participants.weights.tolist()),
            present=PRESENT,
            own=uploads(self.kept, [float("nan")] * len(ranks)),
            ranks=ranks,
            scales=[ALPHA / rank for rank in ranks],
            scale=ALPHA / RANK,
            live_b=Live.B in live,
            first_round=self.view.index == 0,
        )


def uploads(stack: AdapterStack, weights: list[float]) -> list[Upload]:
    """Devices as the oracle knows them: factors at their own rank."""
    devices = []
    for row, weight in enumerate(weights):
        own = stack.of_device(row)
        b = {name: factors.b.numpy() for name, factors in own.items()}
        a = {name: factors.a.numpy() for name, factors in own.items()}
        devices.append(Upload(weight, ALPHA / int(stack.ranks[row]), b, a))
    return devices


def play(
    case: Case, inst: Instance, index: int = 0, sends: Sends = "change", route: Route = "orthogonal"
) -> Round:
    """A round of the case's operator from the instance's last broadcast."""
    operator = case.build(inst, sends, route)
    state: Any = inst.state
    if isinstance(operator, FedInc):
        state = one_cluster(state.layers, state.scaling, inst.num_devices)
    state = operator.start(state)
    before = operator.broadcast(state, inst.kept.take(PRESENT), PRESENT)
    after = operator.finish_locally(before, inst.train(before, operator.live(state, index)), state)
    view = RoundView(index, state, replace(inst.participants, ranks=after.ranks))
    sent = operator.encode(before, after, view)
    update = aggregate(operator, sent, view)
    kept = inst.kept.put(PRESENT, after)
    held = operator.broadcast(update.state, kept, range(inst.num_devices))
    return Round(case, inst, route, operator, view, before, after, sent, update, kept, held)
