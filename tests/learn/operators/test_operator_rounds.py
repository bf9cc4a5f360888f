"""Several rounds through the interface, as a round engine would run them, with other participants in each."""

import dataclasses

import pytest
import torch

from airsim.learn.adapter_stack import AdapterStack, CommonScaling, stack_common
from airsim.learn.adapters import LoRAFactors
from airsim.learn.conformance.cases import CASES
from airsim.learn.conformance.instance import EQUAL_RANKS, MIXED_RANKS, instance
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.base import (
    Participants,
    RoundView,
    aggregate,
    merge,
    participants_of,
    with_weights,
)
from airsim.learn.operators.clustered import FedInc, one_cluster
from airsim.learn.operators.factor_averaging import RBLA, ZeroPadding

ROUNDS = ((0, 1, 2), (4, 1, 3), (0, 3, 4))
SIZES = (40.0, 10.0, 25.0, 5.0, 30.0)


def start(operator, inst):
    state = inst.state
    if isinstance(operator, FedInc):
        state = one_cluster(state.layers, state.scaling, inst.num_devices)
    return operator.start(state)


def run(case, sends, server=aggregate):
    """Final models of all devices after three rounds, and all adapters that devices kept."""
    inst = instance(MIXED_RANKS if case.mixed_ranks else EQUAL_RANKS)
    operator = case.build(inst, sends, "orthogonal")
    state, kept, base = start(operator, inst), inst.kept, dict(inst.base)
    for index, devices in enumerate(ROUNDS):
        before = operator.broadcast(state, kept.take(devices), devices)
        trained = inst.train(before, operator.live(state, index))
        layers = {
            name: LoRAFactors(*(old + 0.1 * (new - old) for old, new in ((f.a, g.a), (f.b, g.b))))
            for (name, f), g in zip(before.layers.items(), trained.layers.values(), strict=True)
        }
        after = operator.finish_locally(before, dataclasses.replace(trained, layers=layers), state)
        known = participants_of(SIZES, [int(rank) for rank in kept.ranks], devices)
        view = RoundView(index, state, dataclasses.replace(known, ranks=after.ranks))
        update = server(operator, operator.encode(before, after, view), view)
        base = {name: merge(weight, update, name) for name, weight in base.items()}
        state, kept = update.state, kept.put(devices, after)
    held = operator.broadcast(state, kept, range(inst.num_devices))
    scale = inst.scaling.of(held.ranks)[:, None, None]
    return {name: base[name] + scale * (f.b @ f.a) for name, f in held.layers.items()}, held


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}")
def test_three_rounds_end_the_same_whether_changes_or_factors_travel(case):
    ends = [run(case, sends) for sends in case.choices]
    assert ends[0][1].is_padded_with_zeros()
    for name in ends[0][0]:
        for other, _ in ends[1:]:
            torch.testing.assert_close(ends[0][0][name], other[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [c for c in CASES if c.method in ("ps", "rbla", "fedsa-lora", "colr")])
def test_a_sum_over_chunks_is_all_that_a_linear_operator_needs(case):
    """Payloads are encoded and superposed in chunks, and only the total reaches the server."""

    def in_chunks(operator, sent, view):
        weights = view.participants.weights
        total = sum(weights[rows] @ sent.payload[rows] for rows in (slice(0, 1), slice(1, 3)))
        return operator.decode(total, with_weights(view, weights))

    whole, chunked = run(case, "change"), run(case, "change", in_chunks)
    for name in whole[0]:
        torch.testing.assert_close(whole[0][name], chunked[0][name])


def test_participants_keep_their_share_of_the_round_in_a_chunk():
    participants = participants_of(SIZES, EQUAL_RANKS, (4, 1, 3))
    chunk = participants.take([1, 2])
    assert isinstance(chunk, Participants) and chunk.devices == (1, 3)
    torch.testing.assert_close(chunk.weights, torch.tensor([10.0, 5.0], dtype=torch.float64) / 45)


@pytest.mark.parametrize("operator", [ZeroPadding(), ZeroPadding("factors"), RBLA(), RBLA("factors")])
def test_layers_of_different_ranks_are_averaged_component_by_component(operator):
    """Devices of rank 1 and 3, a layer of rank 3 and one of rank 1, weights 1/4 and 3/4."""
    rng = torch.Generator().manual_seed(0)

    def factors(rank, outputs, inputs):
        return LoRAFactors(
            torch.randn(rank, inputs, generator=rng), torch.randn(outputs, rank, generator=rng)
        )

    state = AdapterState({"wide": factors(3, 4, 5), "thin": factors(1, 3, 4)}, CommonScaling(2.0))
    participants = participants_of([1.0, 3.0], [1, 3], [0, 1])
    view = RoundView(0, state, participants)
    before = operator.broadcast(state, stack_common(state.layers, participants.ranks), [0, 1])
    layers = {name: LoRAFactors(f.a * 3, f.b * 5) for name, f in before.layers.items()}
    after = AdapterStack(layers, before.ranks)
    sent = operator.encode(before, after, view)
    new = aggregate(operator, sent, view).state.layers
    assert sent.upload_reals.tolist() == [9 + 7, 27 + 7]
    share = 1.0 if isinstance(operator, RBLA) else 0.75
    torch.testing.assert_close(new["thin"].a, 3 * state.layers["thin"].a)
    torch.testing.assert_close(new["wide"].a[0], 3 * state.layers["wide"].a[0])
    torch.testing.assert_close(new["wide"].a[1:], share * 3 * state.layers["wide"].a[1:])
    torch.testing.assert_close(new["wide"].b[:, 1:], share * 5 * state.layers["wide"].b[:, 1:])
