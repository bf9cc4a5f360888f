import dataclasses

import numpy as np
import pytest
import torch
from federation_builders import numbered_source
from hypothesis import given
from hypothesis import strategies as st

from airsim.errors import DataError
from airsim.learn.data.partition import DirichletPartition, IidPartition, share_out
from airsim.learn.data.tasks import (
    FederationPlan,
    SplitSizes,
    TaskSpec,
    build_federated_data,
    label_code,
    make_split,
)
from airsim.randomness import RandomStreams

PLAN = FederationPlan(
    (TaskSpec((0, 1), 2.0), TaskSpec((2, 3), 1.0), TaskSpec()),
    devices_per_task=3,
    sizes=SplitSizes(20, 50, 30),
    camera="upright",
    partition=DirichletPartition(0.5, 2),
)


def build(source=None, seed=0, **changes):
    plan = dataclasses.replace(PLAN, **changes)
    return build_federated_data(source or numbered_source(), plan, RandomStreams(seed))


def numbers(split):
    """Which images of the numbered source a split holds."""
    return torch.round(split.x[:, 0] * 1000).to(torch.int64)


def test_public_training_and_test_images_are_apart_and_no_image_is_on_two_devices():
    data = build()
    parts = [data.public, *data.devices, data.tests[0]]
    everything = torch.cat([numbers(part) for part in parts])
    assert len(everything) == len(torch.unique(everything)) == 20 + 50 + 30


def test_devices_are_numbered_task_by_task_and_tasks_get_their_shares():
    data = build()
    assert data.task_of_device == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    sizes = np.array([split.size for split in data.devices]).reshape(3, 3).sum(axis=1)
    assert sizes.tolist() == [25, 13, 12]


def test_labels_are_true_up_to_the_code_of_the_task():
    data = build()
    codes = [torch.tensor(code) for code in ((1, 0, 2, 3), (0, 1, 3, 2), (0, 1, 2, 3))]
    for split, task in zip(data.devices, data.task_of_device, strict=True):
        assert torch.equal(split.y, codes[task][numbers(split) % 4])
    for split, code in zip(data.tests, codes, strict=True):
        assert torch.equal(split.y, code[numbers(split) % 4])
    assert torch.equal(data.public.y, numbers(data.public) % 4)


def test_all_tasks_are_tested_on_the_same_originals():
    data = build()
    assert all(test.x is data.tests[0].x for test in data.tests)


def test_the_camera_turns_what_devices_and_tests_see_and_leaves_the_public_images():
    upright, turned = build(), build(camera="quarter-turn")
    assert torch.equal(upright.public.x, turned.public.x)
    pairs = [*zip(upright.devices, turned.devices, strict=True), (upright.tests[0], turned.tests[0])]
    for before, after in pairs:
        expected = np.stack([np.rot90(image) for image in before.x.numpy().reshape(-1, 3, 3)])
        np.testing.assert_array_equal(after.x.numpy().reshape(-1, 3, 3), expected)
        assert torch.equal(before.y, after.y)


def test_more_training_images_change_neither_the_public_nor_the_test_images():
    few, many = build(), build(sizes=SplitSizes(20, 60, 30))
    assert torch.equal(few.public.x, many.public.x)
    assert torch.equal(few.tests[0].x, many.tests[0].x)


def test_numbers_left_open_take_all_that_is_left():
    rest = build(sizes=SplitSizes(20, None, 30))
    assert sum(split.size for split in rest.devices) == 70
    assert build(sizes=SplitSizes(20, 50, None)).tests[0].size == 50
    own = build(numbered_source(num_test=15), sizes=SplitSizes(20, None, None))
    assert sum(split.size for split in own.devices) == 100
    assert sorted(numbers(own.tests[0]).tolist()) == list(range(120, 135))


def test_a_seed_decides_who_gets_what():
    one, again, other = build(), build(), build(seed=1)
    assert all(torch.equal(x.x, y.x) for x, y in zip(one.devices, again.devices, strict=True))
    assert not torch.equal(one.public.x, other.public.x)


def test_too_few_images_are_refused_where_they_are_missing():
    with pytest.raises(DataError, match="test images: 30 wanted, 20 left"):
        build(sizes=SplitSizes(20, 80, 30))
    with pytest.raises(DataError, match="training images: 101 wanted, 100 left"):
        build(numbered_source(num_test=15), sizes=SplitSizes(20, 101, 15))
    with pytest.raises(DataError, match="test images: 101 wanted"):
        build(sizes=SplitSizes(20, None, 101))
    with pytest.raises(DataError, match="task 1: 13 samples cannot give 3 devices 5 each"):
        build(partition=IidPartition(5))


def test_the_quickstart_shares_four_hundred_images_out_as_it_says():
    assert share_out(400, (8.0, 4.0, 2.0, 1.0)) == (213, 107, 53, 27)


@given(st.integers(0, 500), st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_shares_add_up_and_are_off_by_less_than_one(total, shares):
    counts = share_out(total, shares)
    assert sum(counts) == total
    exact = total * np.array(shares) / sum(shares)
    assert np.abs(counts - exact).max() < 1 + 1e-9


def test_a_label_code_is_its_own_inverse():
    code = label_code(10, (3, 8))
    assert code[[3, 8, 5]].tolist() == [8, 3, 5]
    np.testing.assert_array_equal(code[code], np.arange(10))


def test_a_split_keeps_pixels_in_reading_order():
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    assert make_split(image, np.zeros(1, dtype=np.int64), "upright").x.tolist() == [[0, 1, 2, 3]]
    assert make_split(image, np.zeros(1, dtype=np.int64), "quarter-turn").x.tolist() == [[1, 3, 0, 2]]
