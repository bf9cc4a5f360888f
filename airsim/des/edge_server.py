"""The life of one edge server."""

from collections.abc import Mapping
from dataclasses import dataclass

import simpy

from airsim.des.messages import EdgeReport, RoundOrder, Uploaded
from airsim.des.process import Process
from airsim.des.timeline import Span, Timeline


@dataclass(frozen=True)
class EdgeServerPorts:
    """Where an edge server hears and speaks."""

    inbox: simpy.Store
    base_station: simpy.Store
    devices: Mapping[int, simpy.Store]


def edge_server(
    env: simpy.Environment, index: int, downlink_s: float, ports: EdgeServerPorts, timeline: Timeline
) -> Process:
    """Pass an order on with the task's adapter, collect the task's uploads, report the merge; forever."""
    name = f"edge-server-{index}"
    while True:
        order = yield ports.inbox.get()
        if not isinstance(order, RoundOrder):
            continue  # an upload that came after its round was closed
        start_s = env.now
        yield env.timeout(downlink_s)
        timeline.record(Span(name, "downlink", start_s, env.now))
        asked = [device for device in ports.devices if device in order.participants]
        for device in asked:
            ports.devices[device].put(order)  # an unbounded store takes it at once

        waiting = len(asked)
        while waiting:
            message = yield ports.inbox.get()
            if isinstance(message, Uploaded) and message.round_index == order.round_index:
                waiting -= 1
        timeline.record(Span(name, "merge", env.now, env.now))
        yield ports.base_station.put(EdgeReport(order.round_index, index))
