"""Stories of the clock: run it, compare what happened when."""

import itertools
from dataclasses import replace

import pytest

from airsim.des import Airtime, Durations, NetworkProfile, OwnWork, run_rounds


class Recorder:
    """Work without numbers that notes when it is called."""

    def __init__(self, airtime):
        self.airtime = airtime
        self.calls = []

    def begin(self, round_index, participants):
        self.calls.append(("begin", round_index, tuple(participants)))
        return self.airtime

    def finish(self, round_index):
        self.calls.append(("finish", round_index))


def profile(compute_s=(2.0, 1.0, 1.0), task_of_device=(0, 0, 1)):
    durations = Durations(lambda round_index: 0.25, 0.5)

    def own_work(device, round_index):
        return OwnWork(compute_s[device], 0.5, 0.125)

    return NetworkProfile(task_of_device, own_work, durations)


def airtime(num_devices=3):
    return Airtime(4.0, 1.0, [2.0] * num_devices, [1.0] * num_devices)


def run(rounds=1, **changes):
    work, records = Recorder(airtime()), []
    run_rounds(profile(**changes), work, rounds, records.append)
    return work, records


def test_one_round_follows_the_protocol_in_order_and_in_time():
    _, [record] = run()
    story = [(span.stop_s, span.actor, span.phase) for span in record.spans]
    assert story == [
        (0.25, "base-station", "downlink"),
        (0.75, "edge-server-0", "downlink"),
        (0.75, "edge-server-1", "downlink"),
        (1.75, "device-1", "compute"),
        (1.75, "device-2", "compute"),
        (1.875, "device-1", "statistics"),
        (2.0, "device-2", "statistics"),  # the control channel carries one speaker at a time
        (2.75, "device-0", "compute"),
        (2.875, "device-0", "statistics"),
        (6.875, "device-0", "s-phase"),  # all devices at once
        (6.875, "device-1", "s-phase"),
        (6.875, "device-2", "s-phase"),
        (7.875, "device-0", "p-phase"),  # task 0 first, then task 1
        (7.875, "device-1", "p-phase"),
        (7.875, "edge-server-0", "merge"),
        (8.875, "device-2", "p-phase"),
        (8.875, "edge-server-1", "merge"),
        (8.875, "base-station", "merge"),
    ]
    assert record.stop_s == 8.875


def test_numbers_are_asked_for_twice_a_round_once_everybody_has_reported():
    work, _ = run(rounds=2)
    assert work.calls == [("begin", 0, (0, 1, 2)), ("finish", 0), ("begin", 1, (0, 1, 2)), ("finish", 1)]


def test_rounds_follow_each_other_without_a_gap_and_cost_the_same():
    _, records = run(rounds=3)
    assert [record.stop_s for record in records] == [8.875, 17.75, 26.625]
    assert [record.energy_j for record in records] == [3 * (0.5 + 2.0 + 1.0)] * 3


def test_a_broadcast_that_grows_with_the_rounds_takes_as_long_as_each_round_says():
    growing, records = replace(profile().durations, shared_downlink_s=lambda index: 0.25 + index), []
    run_rounds(replace(profile(), durations=growing), Recorder(airtime()), 3, records.append)
    assert [record.stop_s for record in records] == [8.875, 2 * 8.875 + 1, 3 * 8.875 + 3]


def test_a_devices_own_work_is_asked_for_in_every_round():
    def own_work(device, round_index):
        return OwnWork(2.0 - round_index, 3.0 - round_index, 0.125 * (1 + round_index))

    records = []
    run_rounds(replace(profile(), own_work=own_work), Recorder(airtime()), 2, records.append)
    first, second = records
    assert second.stop_s - 2 * first.stop_s == pytest.approx(-1.0 + 3 * 0.125)
    assert first.energy_j - second.energy_j == 3.0


def test_the_slowest_device_holds_up_the_round():
    _, [fast] = run(compute_s=(1.0, 1.0, 1.0))
    _, [slow] = run(compute_s=(1.0, 6.0, 1.0))
    assert slow.stop_s - fast.stop_s == pytest.approx(5.0 - 0.25)  # the others' statistics no longer queue


def test_spans_of_one_device_never_overlap():
    _, records = run(rounds=2)
    for actor in ("device-0", "device-1", "device-2"):
        spans = [span for record in records for span in record.spans if span.actor == actor]
        assert all(before.stop_s <= after.start_s for before, after in itertools.pairwise(spans))


def test_an_error_in_the_numbers_reaches_the_caller():
    class Failing(Recorder):
        def begin(self, round_index, participants):
            raise ArithmeticError("left the finite numbers")

    with pytest.raises(ArithmeticError, match="left the finite numbers"):
        run_rounds(profile(), Failing(airtime()), 1, lambda record: None)


def test_a_late_message_of_an_earlier_round_does_not_count_in_this_one():
    import simpy

    from airsim.des.edge_server import EdgeServerPorts, edge_server
    from airsim.des.messages import EdgeReport, RoundOrder, Uploaded
    from airsim.des.timeline import Timeline

    env = simpy.Environment(initial_time=0.0)
    inbox, base, devices = simpy.Store(env), simpy.Store(env), {0: simpy.Store(env), 1: simpy.Store(env)}
    order = RoundOrder(7, frozenset({0, 1}), (0,))
    env.process(edge_server(env, 0, 0.0, EdgeServerPorts(inbox, base, devices), Timeline()))
    for message in (Uploaded(6, 1), order, Uploaded(6, 0), Uploaded(7, 0)):
        inbox.put(message)
    env.run(until=1.0)
    assert base.items == []
    inbox.put(Uploaded(7, 1))
    env.run(until=2.0)
    assert base.items == [EdgeReport(7, 0)]


def test_only_those_who_are_asked_compute_send_and_cost_and_silent_tasks_have_no_slot():
    work, records = Recorder(airtime()), []
    asked = {0: (2,), 1: (0, 2)}.__getitem__
    some = replace(profile(), participants=asked)
    run_rounds(some, work, 2, records.append)
    assert work.calls == [("begin", 0, (2,)), ("finish", 0), ("begin", 1, (0, 2)), ("finish", 1)]
    story = [(span.stop_s, span.actor, span.phase) for span in records[0].spans]
    assert story == [
        (0.25, "base-station", "downlink"),
        (0.75, "edge-server-1", "downlink"),  # the other edge server has nobody to speak to
        (1.75, "device-2", "compute"),
        (1.875, "device-2", "statistics"),
        (5.875, "device-2", "s-phase"),
        (6.875, "device-2", "p-phase"),  # task 1 has the first slot, since task 0 is silent
        (6.875, "edge-server-1", "merge"),
        (6.875, "base-station", "merge"),
    ]
    assert [record.energy_j for record in records] == [3.5, 7.0]
    assert "device-1" not in {span.actor for record in records for span in record.spans}


def test_a_round_that_nobody_is_asked_to_is_refused():
    nobody = replace(profile(), participants=lambda index: ())
    with pytest.raises(ValueError, match="round 0 has no participants"):
        run_rounds(nobody, Recorder(airtime()), 1, lambda record: None)
