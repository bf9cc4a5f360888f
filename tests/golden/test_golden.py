"""Stored numbers of a small run: changed only on purpose, with RESULTS_VERSION and a changelog line.

Three rounds leave no room for rounding to grow, so the numbers hold on any machine to the tolerance given.
To store new ones: `python tests/golden/test_golden.py`.
"""

import json
from pathlib import Path

import pytest

from airsim import Scenario, run, store
from airsim.build import fingerprint

STORED = Path(__file__).with_name("quickstart.json")
KEYS = (
    "loss",
    "pi_predicted",
    "pi_correlated",
    "pi_realised",
    "relative_error_shared",
    "relative_error_personal",
    "reference_std",
    "sim_time_s",
    "energy_j",
    "channel_uses",
)


def golden():
    scenario = Scenario.load("quickstart").with_overrides({"stop.rounds": 3})
    metrics = run(scenario).metrics
    return {
        "results_version": store.RESULTS_VERSION,
        "fingerprint": fingerprint(scenario),
        **{key: metrics[key] for key in KEYS},
    }


def test_the_quickstart_gives_its_stored_numbers_and_name():
    stored, fresh = json.loads(STORED.read_text()), golden()
    names = ("results_version", "fingerprint")
    assert [fresh[name] for name in names] == [stored[name] for name in names]
    for key in KEYS:
        assert fresh[key] == pytest.approx(stored[key], rel=1e-3), key


if __name__ == "__main__":
    STORED.write_text(json.dumps(golden(), indent=1) + "\n")
