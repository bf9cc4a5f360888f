import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airsim.errors import DataError
from airsim.learn.data.partition import DirichletPartition, IidPartition

RULES = [
    IidPartition(2),
    DirichletPartition(0.05, 2),
    DirichletPartition(0.5, 2),
    DirichletPartition(100.0, 2),
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
    with pytest.raises(DataError, match="7 images cannot give 4 devices 2 each"):
        rule.split(np.zeros(7, dtype=np.int64), 4, np.random.default_rng(0))
