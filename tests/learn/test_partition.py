import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airsim.errors import DataError
from airsim.learn.data.partition import DirichletPartition, IidPartition
from airsim.learn.data.skew import OneClassPartition, ShardPartition, UnequalPartition, split_by_task
from airsim.randomness import RandomStreams

RULES = [
    IidPartition(2),
    DirichletPartition(0.05, 2),
    DirichletPartition(0.5, 2),
    DirichletPartition(100.0, 2),
    ShardPartition(2, 2),
    UnequalPartition(1.0, 2),
    UnequalPartition(0.0, 2),
]


@pytest.mark.parametrize("rule", RULES)
@given(num_devices=st.integers(1, 8), spare=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_every_image_is_on_one_device_and_no_device_is_too_poor(rule, num_devices, spare, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 2 * num_devices + spare)
    parts = rule.split(labels, num_devices, rng)
    assert len(parts) == num_devices
    assert min(map(len, parts)) >= 2
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


@pytest.mark.parametrize("rule", RULES)
def test_the_same_draws_give_the_same_partition(rule):
    labels = np.arange(50) % 5
    one, other = (rule.split(labels, 4, np.random.default_rng(7)) for _ in range(2))
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_small_concentration_gives_devices_few_classes():
    labels = np.repeat(np.arange(10), 100)

    def mean_largest_share(rule):
        parts = rule.split(labels, 10, np.random.default_rng(1))
        return np.mean([np.bincount(labels[part]).max() / len(part) for part in parts])

    assert mean_largest_share(DirichletPartition(0.05)) > 0.5
    assert mean_largest_share(DirichletPartition(1000.0)) < 0.15
    assert mean_largest_share(IidPartition()) < 0.25


@pytest.mark.parametrize("rule", RULES)
def test_too_few_images_are_refused(rule):
    with pytest.raises(DataError, match="7 samples cannot give 4 devices 2 each"):
        rule.split(np.zeros(7, dtype=np.int64), 4, np.random.default_rng(0))


def test_with_one_class_per_device_classes_go_round_and_no_sample_is_lost():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 30, 20]))
    parts = OneClassPartition().split(labels, 7, np.random.default_rng(1))
    assert [set(labels[part].tolist()) for part in parts] == [{0}, {1}, {2}, {0}, {1}, {2}, {0}]
    assert [len(part) for part in parts] == [14, 15, 10, 13, 15, 10, 13]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(90))


def test_fewer_devices_than_classes_and_poor_classes_are_refused():
    with pytest.raises(DataError, match="3 classes cannot go to 2 devices"):
        OneClassPartition().split(np.arange(9) % 3, 2, np.random.default_rng(0))
    with pytest.raises(DataError, match="3 samples cannot give 2 devices 2 each"):
        OneClassPartition(2).split(np.arange(9) % 3, 6, np.random.default_rng(0))


def test_two_shards_show_a_device_few_classes_and_equal_amounts():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))
    parts = ShardPartition(2).split(labels, 10, np.random.default_rng(3))
    assert {len(part) for part in parts} == {60}
    assert max(len(np.unique(labels[part])) for part in parts) == 2


def test_log_normal_shares_are_as_unequal_as_their_spread():
    labels = np.zeros(100_000, dtype=np.int64)
    parts = UnequalPartition(0.8).split(labels, 500, np.random.default_rng(2))
    assert np.log([len(part) for part in parts]).std() == pytest.approx(0.8, rel=0.1)
    even = UnequalPartition(0.0).split(labels, 500, np.random.default_rng(2))
    assert {len(part) for part in even} == {200}


def test_by_task_every_task_is_split_by_the_rule_on_devices_of_its_own():
    labels = [np.zeros(8, dtype=np.int64), np.arange(9) % 3]
    parts = split_by_task(labels, 3, IidPartition(2), RandomStreams(4))
    assert [len(part) for part in parts] == [3, 3, 2, 3, 3, 3]
    for own, samples in ((parts[:3], 8), (parts[3:], 9)):
        np.testing.assert_array_equal(np.sort(np.concatenate(own)), np.arange(samples))
    with pytest.raises(DataError, match="task 1: 9 samples cannot give 3 devices 4 each"):
        split_by_task([np.zeros(12, dtype=np.int64), labels[1]], 3, IidPartition(4), RandomStreams(4))
