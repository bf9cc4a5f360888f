"""Rounds that only some devices take part in: who, with what weight, at what cost, and what stays."""

import json
from typing import get_args

import numpy as np
import pytest
import torch

from airsim import Scenario, rounds, run
from airsim.build import build_simulation
from airsim.errors import ScenarioError
from airsim.learn.adapters import flatten
from airsim.learn.operators.base import OnAir
from airsim.participation import ParticipantDraw, Present
from airsim.randomness import RandomStreams
from airsim.scenario.aggregation import GRADIENT_METHOD, MIXED_RANK_METHODS, MethodName

SOME = (0, 1, 2, 5)  # of eight devices in four tasks: the last task is silent
FREE = {"uplink__mode": "error-free", "uplink__nonlinear": "orthogonal"}
LOCAL = {
    "learning__adapters__personal_rank": 0,
    "learning__training__steps": 2,
    "learning__batch": 8,
    "learning__learning_rate": 0.02,
}


def gradient_engine(scenario, participants=SOME, **changes):
    engine = build_simulation(scenario(**changes)).engine
    engine.begin(0, participants)
    return engine


def method_engine(scenario, method, **changes):
    return build_simulation(scenario(aggregation__method=method, **FREE | LOCAL | changes)).engine


def same(one, other):
    return repr(one) == repr(other)


@pytest.mark.parametrize(
    "changes, wording", [({}, {"share": 1.0}), ({"aggregation__method": "ps", **LOCAL}, {"devices": 8})]
)
def test_participation_of_all_is_the_run_without_the_field_to_the_bit(scenario, changes, wording):
    plain = scenario(**changes, stop__rounds=2)
    whole = plain.with_overrides({"learning.participation": wording})
    assert same(run(plain).metrics, run(whole).metrics)


def test_a_draw_of_all_devices_is_all_devices():
    draw = ParticipantDraw(6, 6, RandomStreams(0))
    assert [draw(index) for index in range(3)] == [list(range(6))] * 3


def test_every_device_takes_part_equally_often_and_rounds_differ():
    draw = ParticipantDraw(8, 3, RandomStreams(1))
    rounds = [draw(index) for index in range(800)]
    assert all(len(set(own)) == 3 and own == sorted(own) for own in rounds)
    counts = np.bincount(np.concatenate(rounds), minlength=8)
    assert abs(counts - 300).max() < 60  # four standard deviations
    assert rounds[0] != rounds[1] and rounds == [draw(index) for index in range(800)]


def test_all_methods_meet_the_same_participants(scenario):
    half = {"learning__participation": {"share": 0.5}, "stop__rounds": 2}
    seen = [run(scenario(**half)).metrics["participants"]]
    for method in ("flexlora", "scaffold"):
        changes = {"aggregation__method": method, "uplink__nonlinear": "orthogonal", **LOCAL, **half}
        seen.append(run(scenario(**changes)).metrics["participants"])
    assert all(own == seen[0] for own in seen)
    assert {len(devices) for devices in seen[0]} == {4} and seen[0][0] != seen[0][1]


@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
def test_error_free_aggregates_are_the_weighted_means_over_the_participants(scenario, normalisation):
    changes = {"uplink__mode": "error-free", "uplink__normalisation": normalisation}
    engine = gradient_engine(scenario, **changes)
    before, rate = engine.adapters, engine.learner.operator.learning_rate
    (chunk,) = engine.learner.gradients(before, 0, SOME)
    sizes = torch.tensor(engine.federation.data_sizes)
    engine.finish(0)
    own = sizes[list(SOME)] / sizes[list(SOME)].sum()
    shared = (flatten(before.shared) - flatten(engine.adapters.shared)).double() / rate
    wanted = own @ chunk.shared.double()
    torch.testing.assert_close(shared, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    personal = (flatten(before.personal) - flatten(engine.adapters.personal)).double() / rate
    for task, members in enumerate([(0, 1), (2,), (5,)]):
        share = sizes[list(members)] / sizes[list(members)].sum()
        wanted = share @ chunk.personal[[SOME.index(device) for device in members]].double()
        torch.testing.assert_close(personal[task], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert torch.equal(flatten(engine.adapters.personal)[3], flatten(before.personal)[3])


@pytest.mark.parametrize("mode", ["error-free", "aircomp"])
def test_who_sits_out_pays_nothing_and_a_silent_task_is_not_heard(scenario, mode):
    engine = build_simulation(scenario(uplink__mode=mode)).engine
    airtime = engine.begin(0, SOME)
    spent = np.add(airtime.shared_energy_j, airtime.personal_energy_j)
    assert [device for device, joules in enumerate(spent) if joules] == (
        list(SOME) if mode == "aircomp" else []
    )
    federation = engine.federation
    assert engine.channel_uses == federation.symbols_shared + 3 * federation.symbols_personal
    engine.finish(0)
    for name in ("mse_predicted", "mse_correlated", "mse_realised"):
        assert len(engine.metrics[name]) == 5 and engine.metrics[name][4] == 0.0


@pytest.mark.parametrize("air", ["effective", "antenna"])
def test_some_of_a_cohort_whose_payloads_are_not_kept_make_the_same_round(scenario, monkeypatch, air):
    engines = []
    for most in (rounds.PAYLOAD_BYTES_SUMMED, 0):
        monkeypatch.setattr(rounds, "PAYLOAD_BYTES_SUMMED", most)
        engines.append(gradient_engine(scenario, (1, 2, 6, 7), uplink__air=air, channel__snr="5 dB"))
        engines[-1].finish(0)
    kept, summed = (engine.metrics for engine in engines)
    for name in ("loss", "mse_predicted", "mse_correlated", "reference_std"):
        np.testing.assert_allclose(summed[name], kept[name], rtol=1e-3)
    if air == "antenna":  # the phase of a beam is free, and turns the noise of the antennas
        return
    for part in ("shared", "personal"):
        one, other = (flatten(getattr(engine.adapters, part)) for engine in engines)
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize("air", ["effective", "antenna"])
def test_the_logged_error_over_participants_is_the_error_of_the_adapters(scenario, air):
    engine = gradient_engine(scenario, channel__snr="0 dB", uplink__air=air)
    before, rate = engine.adapters, engine.learner.operator.learning_rate
    (chunk,) = engine.learner.gradients(before, 0, SOME)
    sizes = torch.tensor(engine.federation.data_sizes)[list(SOME)]
    engine.finish(0)
    received = (flatten(before.shared) - flatten(engine.adapters.shared)).double() / rate
    error = received - (sizes / sizes.sum()) @ chunk.shared.double()
    realised = float(error.square().mean()) / engine.metrics["reference_std"] ** 2
    assert engine.metrics["mse_realised"][0] == pytest.approx(realised, rel=1e-3)


def test_the_design_knows_the_participants_alone_over_the_links_that_they_have_beside_all(scenario):
    engine = build_simulation(scenario()).engine
    present = Present(engine.federation, SOME)
    own, all_of_them = present.uplink(engine.uplink), engine.uplink
    assert len(own.channels) == 4
    for place, (receiver, rows) in enumerate([(0, SOME), (1, (0, 1)), (2, (0,)), (3, (1,))]):
        alone = own.channels[place].realise(7)
        beside = all_of_them.channels[receiver].realise(7)
        assert np.array_equal(alone.response, beside.response[list(rows)])
        assert own.federation.receiver_of(place) == receiver
    problems = []
    design = type(engine.uplink.designer).design

    def noted(designer, problem):
        problems.append(problem)
        return design(designer, problem)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine.uplink.designer), "design", noted)
        engine.begin(0, SOME)
    assert problems[0].base_station_channel.shape[-2] == 4
    assert [len(members) for members in problems[0].members] == [2, 1, 1]


def test_only_participants_are_on_the_timeline_of_a_run(scenario, tmp_path):
    config = scenario(learning__participation={"devices": 2}, record__timeline_rounds=2, stop__rounds=2)
    result = run(config, out=tmp_path / "run")
    spans = [json.loads(line) for line in (tmp_path / "run/timeline.jsonl").read_text().splitlines()]
    for index, devices in enumerate(result.metrics["participants"]):
        actors = {span["actor"] for span in spans if span["round"] == index}
        assert {name for name in actors if name.startswith("device")} == {f"device-{k}" for k in devices}
        tasks = {device // 2 for device in devices}
        assert {name for name in actors if name.startswith("edge")} == {f"edge-server-{t}" for t in tasks}


AVERAGING = tuple(name for name in get_args(MethodName) if name != GRADIENT_METHOD)


@pytest.mark.parametrize("method", AVERAGING)
def test_a_round_of_some_is_the_operators_own_aggregation_of_them_and_reaches_everybody(scenario, method):
    engine = method_engine(scenario, method, learning__learning_rate=0.15)
    airtime = engine.begin(0, SOME)
    local = engine.learner.train(engine.state, 0, SOME)
    assert local.view.participants.devices == SOME and len(local.sent.payload) == 4
    sizes = np.array([engine.learner.data.devices[device].size for device in SOME])
    if method != "hetlora":  # which weighs by norms
        np.testing.assert_allclose(local.weights.numpy(), sizes / sizes.sum(), rtol=1e-6)
    received = local.sent.payload
    if engine.learner.operator.on_air is not OnAir.NONLINEAR:
        received = local.weights.to(received.dtype) @ received
    wanted = engine.learner.named_tensors(engine.learner.merge(engine.state, local, received))
    engine.finish(0)
    for name, tensor in wanted.items():
        torch.testing.assert_close(engine.named_tensors()[name], tensor, rtol=1e-4, atol=1e-5)
    assert len(airtime.shared_energy_j) == 8
    assert engine.metrics["participants"] == list(SOME)
    require_latest_broadcast(engine)


@pytest.mark.parametrize("method", [m for m in MIXED_RANK_METHODS if m != "flora"])
def test_a_broadcast_takes_what_the_largest_rank_needs_also_where_it_sits_out(scenario, method):
    engine = method_engine(scenario, method, learning__adapters__device_ranks=[1, 6])
    charged = []
    for index, present in enumerate([(1, 3), (0, 2)]):  # of rank 6, and of rank 1
        engine.begin(index, present)
        engine.finish(index)
        charged.append(engine.broadcast_entries)
    assert int(engine.state.held.ranks.max()) == 6
    assert charged[0] == charged[1]


def require_latest_broadcast(engine):
    """Whoever sat out holds what a broadcast of now would give: hearing it twice changes nothing."""
    held, last = engine.state.held, "layers" if hasattr(engine.state.held, "layers") else "parameters"
    again = getattr(engine.learner.operator.broadcast(engine.state.server, held, range(8)), last)
    for name, have in getattr(held, last).items():
        pairs = [(have, again[name])]
        if last == "layers":
            pairs = [(have.a, again[name].a), (have.b, again[name].b)]
        assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("method", ["ps", "flexlora", "fedavg"])
def test_what_a_device_trains_does_not_depend_on_who_else_takes_part(scenario, method):
    engine = method_engine(scenario, method)
    state = engine.state
    alone, beside = engine.learner.train(state, 0, (2, 5)), engine.learner.train(state, 0, SOME)
    torch.testing.assert_close(alone.losses, beside.losses[[2, 3]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["flexlora", "fedinc", "ps", "scaffold"])
def test_over_the_air_only_participants_radiate_and_uses_count_them_alone(scenario, method):
    engine = method_engine(scenario, method, uplink__mode="aircomp", channel__snr="10 dB")
    airtime = engine.begin(0, SOME)
    assert [device for device, joules in enumerate(airtime.shared_energy_j) if joules] == list(SOME)
    sent = engine.learner.train(engine.state, 0, SOME).sent
    one_by_one = int(((sent.upload_reals + 1) // 2).sum())
    superposed = (sent.payload.shape[1] + 1) // 2
    assert engine.channel_uses == (one_by_one if method in ("flexlora", "fedinc") else superposed)
    engine.finish(0)
    assert np.isfinite(engine.metrics["pi_realised"])


def played(engine, *rounds):
    states = []
    for index, participants in enumerate(rounds):
        engine.begin(index, participants)
        engine.finish(index)
        states.append(engine.state)
    return states


def test_personal_factors_and_momenta_of_those_who_sit_out_stay_to_the_bit(scenario):
    changes = {"learning__training__optimiser": "momentum", "learning__training__keep_state": True}
    first, second = played(method_engine(scenario, "fedsa-lora", **changes), SOME, (2, 3))
    for name, factors in second.held.layers.items():
        for device in (0, 1, 5):
            assert torch.equal(factors.b[device], first.held.layers[name].b[device])
            slot, old = second.memory.slots[name][0], first.memory.slots[name][0]
            assert torch.equal(slot.a[device], old.a[device]) and bool(slot.b[device].any())
        assert not torch.equal(factors.b[2], first.held.layers[name].b[2])
        assert torch.equal(factors.a[0], factors.a[2])  # the common factor reaches everybody
    assert second.memory.counts.tolist() == [2, 2, 4, 2, 0, 2, 0, 0]


def test_momenta_of_whole_models_of_those_who_sit_out_stay_to_the_bit(scenario):
    changes = {"learning__training__optimiser": "momentum", "learning__training__keep_state": True}
    first, second = played(method_engine(scenario, "fedavg", **changes), SOME, (2, 3))
    for name, (slot,) in second.memory.slots.items():
        old = first.memory.slots[name][0]
        assert torch.equal(slot[[0, 1, 5]], old[[0, 1, 5]]) and not torch.equal(slot[2], old[2])
        assert not bool(slot[[4, 6, 7]].any())
    assert second.memory.counts.tolist() == [2, 2, 4, 2, 0, 2, 0, 0]


@pytest.mark.parametrize("method", ["scaffold", "moon"])
def test_control_variates_and_previous_models_of_those_who_sit_out_stay(scenario, method):
    engine = method_engine(scenario, method)
    start = engine.state.held.private
    first, second = played(engine, SOME, (2, 3))
    for name, private in second.held.private.items():
        assert torch.equal(private[[0, 1, 5]], first.held.private[name][[0, 1, 5]])
        assert torch.equal(private[[4, 6, 7]], start[name][[4, 6, 7]])
    changed = [name for name, x in second.held.private.items() if not torch.equal(x[2], start[name][2])]
    assert changed == list(start)


def test_the_servers_control_variate_moves_by_the_share_of_participants(scenario):
    engine = method_engine(scenario, "scaffold")
    local = engine.learner.train(engine.state, 0, SOME)
    (state,) = played(engine, SOME)
    total = local.weights.float() @ local.sent.payload
    moved = torch.cat([x.flatten() for x in state.server.control.values()])
    torch.testing.assert_close(moved, 0.5 * total.chunk(2)[1], rtol=1e-4, atol=1e-6)


def test_ranks_that_were_pruned_are_those_of_participants_only(scenario):
    changes = {"learning__adapters__device_ranks": [4, 6], "learning__adapters__alpha": 4.0}
    states = played(method_engine(scenario, "hetlora", aggregation__kept_share=0.5, **changes), SOME, SOME)
    assert states[-1].held.ranks[[3, 4, 6, 7]].tolist() == [6, 4, 4, 6]
    assert states[-1].held.is_padded_with_zeros()


def test_a_server_with_a_memory_forgets_nothing_of_a_silent_task(scenario):
    engine = build_simulation(scenario(learning__server={"optimiser": "adam"})).engine
    for index, participants in enumerate([(0, 2, 4, 6), (0, 2), (6, 7)]):
        engine.begin(index, participants)
        engine.finish(index)
    assert engine.memory.shared.counts.tolist() == [3]
    assert engine.memory.personal.counts.tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"learning.participation": {"devices": 21}}, "21 devices cannot take part in a round of 20"),
        ({"learning.participation": {"share": 0.5, "devices": 3}}, "give one of them"),
        ({"learning.participation": {"share": 0}}, "write more than 0"),
        ({"learning.participation": 0.5}, "the fields are share, devices"),
        (
            {
                "aggregation": {"method": "fedinc", "clusters": 4},
                "learning.adapters.personal_rank": 0,
                "uplink.nonlinear": "orthogonal",
                "learning.participation.devices": 3,
            },
            r"(?s)4 clusters cannot be made of 3 devices.*set aggregation\.clusters to at most 3",
        ),
    ],
)
def test_impossible_participation_is_refused_with_a_way_out(changes, message):
    with pytest.raises(ScenarioError, match=message):
        Scenario.load("quickstart", changes)


def test_shares_are_rounded_to_whole_devices_and_never_to_none():
    for share, devices in ((0.3, 6), (0.01, 1), (0.125, 3), (1.0, 20)):
        scenario = Scenario.load("quickstart", {"learning.participation.share": share})
        assert scenario.aggregation.method == GRADIENT_METHOD
        assert scenario.devices_per_round == devices


@pytest.mark.parametrize("participants", [(), (1, 0), (0, 0), (0, 8)])
def test_a_round_names_its_participants_once_and_in_order(scenario, participants):
    engine = build_simulation(scenario()).engine
    with pytest.raises(ValueError, match="name at least one device, each once"):
        engine.begin(0, participants)
