"""The life of one device."""

from collections.abc import Callable
from dataclasses import dataclass

import simpy

from airsim.des.messages import RoundOrder, Statistics, Uploaded, UploadGrant
from airsim.des.process import Process
from airsim.des.timeline import Span, Timeline


@dataclass(frozen=True)
class OwnWork:
    """What a device does on its own in a round: computing, and its report on the control channel."""

    compute_s: float
    compute_energy_j: float
    statistics_s: float


@dataclass(frozen=True)
class DeviceProfile:
    """Who this device is, and its own work by round."""

    index: int
    task: int
    own_work: Callable[[int], OwnWork]

    @property
    def name(self) -> str:
        return f"device-{self.index}"


@dataclass(frozen=True)
class DevicePorts:
    """Where a device hears and speaks; the control channel carries one speaker at a time."""

    inbox: simpy.Store
    base_station: simpy.Store
    edge_server: simpy.Store
    control_channel: simpy.Resource


def device(env: simpy.Environment, profile: DeviceProfile, ports: DevicePorts, timeline: Timeline) -> Process:
    """Wait for an order, compute, report statistics, wait for the grant, send twice; forever.

    In the s-phase all participants send at once; in the p-phase their tasks take turns, so a device waits
    for the slot of its task.
    """

    def spend(phase: str, duration_s: float, energy_j: float = 0.0) -> Process:
        start_s = env.now
        yield env.timeout(duration_s)
        timeline.record(Span(profile.name, phase, start_s, env.now, energy_j))

    while True:
        order = yield ports.inbox.get()
        if not isinstance(order, RoundOrder):
            continue  # a grant of a round that this device did not take part in
        work = profile.own_work(order.round_index)
        yield from spend("compute", work.compute_s, work.compute_energy_j)
        with ports.control_channel.request() as turn:
            yield turn
            yield from spend("statistics", work.statistics_s)
        yield ports.base_station.put(Statistics(order.round_index, profile.index))

        grant = yield ports.inbox.get()
        while not (isinstance(grant, UploadGrant) and grant.round_index == order.round_index):
            grant = yield ports.inbox.get()
        airtime = grant.airtime
        yield from spend("s-phase", airtime.shared_s, airtime.shared_energy_j[profile.index])
        yield env.timeout(order.tasks.index(profile.task) * airtime.personal_s)
        yield from spend("p-phase", airtime.personal_s, airtime.personal_energy_j[profile.index])
        yield ports.edge_server.put(Uploaded(order.round_index, profile.index))
