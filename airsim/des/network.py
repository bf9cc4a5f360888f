"""Put the actors together and run the clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import simpy

from airsim.des.base_station import BaseStationPorts, RoundPlan, base_station
from airsim.des.device import DevicePorts, DeviceProfile, OwnWork, device
from airsim.des.edge_server import EdgeServerPorts, edge_server
from airsim.des.messages import RoundOrder, RoundWork
from airsim.des.timeline import Span, Timeline


@dataclass(frozen=True)
class Durations:
    """Seconds of the broadcasts; how long the base station's takes depends on the round."""

    shared_downlink_s: Callable[[int], float]
    personal_downlink_s: float


@dataclass(frozen=True)
class NetworkProfile:
    """The actors: each device's task, its own work, and the common durations.

    `own_work` is asked by device and round, when the round's order arrives. `participants` names the devices
    of a round, given its index; all of them unless it is given.
    """

    task_of_device: Sequence[int]
    own_work: Callable[[int, int], OwnWork]
    durations: Durations
    participants: Callable[[int], Sequence[int]] | None = None

    @property
    def num_edge_servers(self) -> int:
        return max(self.task_of_device) + 1

    def order(self, round_index: int) -> RoundOrder:
        """Who is asked to take part in a round.

        Raises:
            ValueError: nobody is.
        """
        devices = range(len(self.task_of_device))
        asked = frozenset(devices if self.participants is None else self.participants(round_index))
        if not asked:
            raise ValueError(f"round {round_index} has no participants: draw at least one device")
        return RoundOrder(round_index, asked, tuple(sorted({self.task_of_device[k] for k in asked})))


@dataclass(frozen=True)
class RoundRecord:
    """A finished round on the clock: when it ended and every activity in it."""

    round_index: int
    stop_s: float
    spans: tuple[Span, ...]

    @property
    def energy_j(self) -> float:
        """Joules that all actors spent in this round."""
        return sum(span.energy_j for span in self.spans)


def run_rounds(
    profile: NetworkProfile, work: RoundWork, rounds: int, on_round: Callable[[RoundRecord], None]
) -> None:
    """Run the clock from zero until the last round is merged.

    `work` is asked for numbers twice a round; `on_round` receives each finished round.
    """
    env = simpy.Environment(initial_time=0.0)  # SimPy's clock is an int unless told otherwise
    timeline = Timeline()
    base_inbox = simpy.Store(env)
    edge_inboxes = [simpy.Store(env) for _ in range(profile.num_edge_servers)]
    device_inboxes = [simpy.Store(env) for _ in profile.task_of_device]
    control_channel = simpy.Resource(env, capacity=1)

    for index, task in enumerate(profile.task_of_device):
        own = DeviceProfile(index, task, partial(profile.own_work, index))
        ports = DevicePorts(device_inboxes[index], base_inbox, edge_inboxes[task], control_channel)
        env.process(device(env, own, ports, timeline))
    for task, inbox in enumerate(edge_inboxes):
        members = {k: device_inboxes[k] for k, own in enumerate(profile.task_of_device) if own == task}
        edge_ports = EdgeServerPorts(inbox, base_inbox, members)
        env.process(edge_server(env, task, profile.durations.personal_downlink_s, edge_ports, timeline))

    def close(round_index: int) -> None:
        on_round(RoundRecord(round_index, env.now, timeline.take()))

    plan = RoundPlan(rounds, profile.order, profile.durations.shared_downlink_s, work, close)
    env.run(
        until=env.process(
            base_station(env, plan, BaseStationPorts(base_inbox, edge_inboxes, device_inboxes), timeline)
        )
    )
