"""The life of the base station."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import simpy

from airsim.des.messages import EdgeReport, RoundOrder, RoundWork, Statistics, UploadGrant
from airsim.des.process import Process
from airsim.des.timeline import Span, Timeline


@dataclass(frozen=True)
class BaseStationPorts:
    """Where the base station hears and speaks."""

    inbox: simpy.Store
    edge_servers: Sequence[simpy.Store]
    devices: Sequence[simpy.Store]


@dataclass(frozen=True)
class RoundPlan:
    """How many rounds to run, whom to order, how long a downlink lasts, whom to tell of a round's end."""

    rounds: int
    order: Callable[[int], RoundOrder]
    downlink_s: Callable[[int], float]
    work: RoundWork
    on_round: Callable[[int], None]


def base_station(
    env: simpy.Environment, plan: RoundPlan, ports: BaseStationPorts, timeline: Timeline
) -> Process:
    """Order, collect statistics, design, grant, collect reports, merge; once per round."""
    for round_index in range(plan.rounds):
        order = plan.order(round_index)
        start_s = env.now
        yield env.timeout(plan.downlink_s(round_index))
        timeline.record(Span("base-station", "downlink", start_s, env.now))
        for task in order.tasks:
            ports.edge_servers[task].put(order)

        reporters: set[int] = set()
        while len(reporters) < len(order.participants):
            message = yield ports.inbox.get()
            if isinstance(message, Statistics) and message.round_index == round_index:
                reporters.add(message.device)
        airtime = plan.work.begin(round_index, sorted(reporters))
        for index in sorted(reporters):
            ports.devices[index].put(UploadGrant(round_index, airtime))

        merged: set[int] = set()
        while len(merged) < len(order.tasks):
            message = yield ports.inbox.get()
            if isinstance(message, EdgeReport) and message.round_index == round_index:
                merged.add(message.edge_server)
        plan.work.finish(round_index)
        timeline.record(Span("base-station", "merge", env.now, env.now))
        plan.on_round(round_index)
