"""What the simulator must show: accuracy against channel conditions, over paired seeds.

Each law runs the whole simulator. The slice here takes the quickstart as it is; the full curves are
`make stress`.
"""

import itertools
from functools import cache

import numpy as np
import pytest

from airsim import Scenario, run
from airsim.errors import DivergenceError

pytestmark = pytest.mark.xdist_group("physics")  # the runs are shared between the laws

SEEDS = (0, 1, 2)
ERROR_FREE = "error-free"


@cache
def summary(seed, **changes):
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    dotted |= {"seed": seed, "record.evaluate_every": 300}
    return run(Scenario.load("quickstart").with_overrides(dotted)).summary


def accuracies(**changes):
    return np.array([summary(seed, **changes)["accuracy"] for seed in SEEDS])


def at(snr):
    if snr == ERROR_FREE:
        return accuracies(uplink__mode=ERROR_FREE)
    return accuracies(channel__snr=snr)


def standard_error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


def test_accuracy_at_30_db_is_that_of_error_free_links():
    difference = at("30 dB") - at(ERROR_FREE)
    assert abs(difference.mean()) <= 0.01
    assert standard_error(difference) < 0.01


def test_accuracy_at_minus_20_db_is_ten_points_lower():
    difference = at(ERROR_FREE) - at("-20 dB")
    assert difference.mean() >= 0.10
    assert difference.mean() - 2 * standard_error(difference) > 0.05


def test_a_nearly_unbiased_design_learns_better_at_minus_20_db_although_its_error_is_larger():
    changes = {"channel__snr": "-20 dB"}
    plain, unbiased = at("-20 dB"), accuracies(**changes, allocation__misalignment_weight=1000)
    assert (unbiased - plain).mean() > 0.10
    for seed in SEEDS:
        smallest = summary(seed, **changes)["pi_predicted"]
        assert summary(seed, **changes, allocation__misalignment_weight=1000)["pi_predicted"] > 5 * smallest


def test_sharing_and_personalising_beats_either_alone_at_equal_rank():
    ranks = {"shared": (8, 0), "personal": (0, 8)}
    dual = at("20 dB")
    for name, (shared, personal) in ranks.items():
        alone = accuracies(learning__adapters__shared_rank=shared, learning__adapters__personal_rank=personal)
        assert (dual - alone).mean() > 0, name


@pytest.mark.stress
def test_accuracy_does_not_fall_as_the_channel_improves():
    ladder = ["-20 dB", "-10 dB", "0 dB", "10 dB", "20 dB", "30 dB"]
    curve = {snr: at(snr) for snr in ladder}
    for worse, better in itertools.pairwise(ladder):
        rise = curve[better] - curve[worse]
        print(f"{worse} -> {better}: {100 * rise.mean():+.1f} +- {100 * standard_error(rise):.1f} points")
        assert rise.mean() >= -max(0.01, 2 * standard_error(rise))


@pytest.mark.stress
def test_sharing_and_personalising_beats_either_alone_each_at_its_best_learning_rate():
    grid = (0.05, 0.1, 0.15, 0.2, 0.3)
    best = {}
    for name, (shared, personal) in {"dual": (6, 2), "shared": (8, 0), "personal": (0, 8)}.items():
        ranks = {"learning__adapters__shared_rank": shared, "learning__adapters__personal_rank": personal}
        tried = {}
        for rate in grid:
            try:
                tried[rate] = accuracies(**ranks, learning__learning_rate=rate)
            except DivergenceError:
                continue
        rate, best[name] = max(tried.items(), key=lambda entry: entry[1].mean())
        print(f"{name}: {100 * best[name].mean():.1f} % at learning rate {rate}")
    for name in ("shared", "personal"):
        gain = best["dual"] - best[name]
        print(f"dual over {name}: {100 * gain.mean():+.1f} +- {100 * standard_error(gain):.1f} points")
        assert gain.mean() > 0


def test_more_devices_at_fixed_snr_reduce_pi_and_less_so_the_relative_error():
    """Most of the fall of Pi_t comes from the smaller targets 1/K; the relative error is logged beside it."""
    few, many = (
        run(
            Scenario.load("quickstart").with_overrides(
                {"network.devices.per_edge_server": count, "channel.snr": "0 dB", "stop.rounds": 100}
            )
        ).metrics
        for count in (2, 10)
    )
    fall = np.mean(few["pi_predicted"]) / np.mean(many["pi_predicted"])
    relative_fall = np.mean(few["relative_error_shared"]) / np.mean(many["relative_error_shared"])
    assert fall > 2
    assert relative_fall < fall
