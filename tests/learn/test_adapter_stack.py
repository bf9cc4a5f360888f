"""Adapters of many devices side by side: padding, cutting, and what is refused."""

import pytest
import torch

from airsim.learn.adapter_stack import (
    AdapterStack,
    CommonScaling,
    RankScaling,
    stack_common,
    stack_devices,
)
from airsim.learn.adapters import LoRAFactors

SHAPES = {"first": (5, 4), "second": (3, 7)}


def device(rank, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: LoRAFactors(torch.randn(rank, i, generator=rng), torch.randn(o, rank, generator=rng))
        for name, (o, i) in SHAPES.items()
    }


def equal(one, two):
    assert one.keys() == two.keys()
    for name, factors in one.items():
        assert torch.equal(factors.a, two[name].a) and torch.equal(factors.b, two[name].b)


def test_devices_come_back_from_the_stack_as_they_went_in():
    devices = [device(2, 1), device(4, 2), device(1, 3)]
    stack = stack_devices(devices, rank=5)
    assert stack.ranks.tolist() == [2, 4, 1] and stack.is_padded_with_zeros()
    assert stack.layers["first"].a.shape == (3, 5, 4)
    for row, own in enumerate(devices):
        equal(stack.of_device(row), own)


def test_the_product_of_padded_factors_is_the_product_of_the_device():
    stack = stack_devices([device(2, 1), device(3, 2)])
    for row in (0, 1):
        for name, factors in stack.of_device(row).items():
            padded = stack.layers[name]
            torch.testing.assert_close(padded.b[row] @ padded.a[row], factors.b @ factors.a)


def test_a_truncated_device_keeps_its_first_components_and_ranks_never_grow():
    stack = stack_devices([device(3, 1), device(2, 2)])
    cut = stack.truncate(torch.tensor([1, 3]))
    assert cut.ranks.tolist() == [1, 2] and cut.is_padded_with_zeros()
    whole = stack.of_device(0)
    equal(cut.of_device(0), {name: factors.split(1)[0] for name, factors in whole.items()})
    equal(cut.of_device(1), stack.of_device(1))


def test_a_common_adapter_is_expanded_without_a_copy_and_cut_where_ranks_are_lower():
    common = device(3)
    same = stack_common(common, torch.tensor([3, 3]))
    assert same.layers["first"].a.data_ptr() == common["first"].a.data_ptr()
    mixed = stack_common(common, torch.tensor([3, 1]))
    equal(mixed.of_device(0), common)
    equal(mixed.of_device(1), {name: factors.split(1)[0] for name, factors in common.items()})
    assert mixed.is_padded_with_zeros()


def test_a_cut_also_removes_what_is_not_finite():
    bad = {name: LoRAFactors(f.a * float("nan"), f.b * float("inf")) for name, f in device(2).items()}
    assert stack_devices([bad]).truncate(torch.tensor([1])).is_padded_with_zeros()


def test_a_layer_of_smaller_rank_cuts_its_devices_there():
    layers = {"wide": device(4)["first"].expand(2), "narrow": device(2)["second"].expand(2)}
    stack = AdapterStack(layers, torch.tensor([4, 1]))
    assert stack.layer_ranks("narrow").tolist() == [2, 1]
    assert stack.of_device(0)["narrow"].rank == 2


def test_devices_that_are_put_back_replace_only_themselves():
    stack = stack_devices([device(3, seed) for seed in range(3)])
    other = stack_devices([device(3, 9)])
    put = stack.put([1], other)
    equal(put.of_device(1), other.of_device(0))
    for row in (0, 2):
        equal(put.of_device(row), stack.of_device(row))
    equal(stack.take([2]).of_device(0), stack.of_device(2))


def test_scalings_follow_their_rule_at_every_rank():
    ranks = torch.tensor([1, 4, 8])
    assert RankScaling(16.0).of(ranks).tolist() == [16.0, 4.0, 2.0]
    assert CommonScaling(0.5).of(ranks).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: AdapterStack({}, torch.tensor([1])), "layers is empty"),
        (lambda: AdapterStack(stack_devices([device(2)]).layers, torch.tensor([3])), r"ranks\[0\] = 3"),
        (lambda: AdapterStack(stack_devices([device(2)]).layers, torch.tensor([0])), r"ranks\[0\] = 0"),
        (lambda: AdapterStack(device(2), torch.tensor([1])), "one entry per device"),
        (lambda: AdapterStack(stack_devices([device(2)]).layers, torch.tensor([1, 1])), "for 2 devices"),
        (lambda: stack_devices([device(3)], rank=2), "rank = 2 cannot hold devices of rank 3"),
        (
            lambda: stack_devices([{"first": device(1)["first"], "second": device(2)["second"]}]),
            r"devices\[0\] has ranks \[1, 2\]",
        ),
        (lambda: RankScaling(0.0), "alpha = 0.0"),
        (lambda: CommonScaling(-1.0), "scale = -1.0"),
    ],
)
def test_an_impossible_stack_is_refused_with_what_is_wrong(build, told):
    with pytest.raises(ValueError, match=told):
        build()
