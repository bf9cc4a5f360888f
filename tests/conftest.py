"""Tests keep to themselves: one thread each, and pretrained bases cached in a folder of the test session."""

import importlib.util
import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    os.environ["AIRSIM_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    if importlib.util.find_spec("torch"):  # the tests of optim run without it
        import torch

        torch.set_num_threads(1)


@pytest.fixture
def scenario():
    """A builder: the quickstart, small and short, with changes by dotted key."""
    from airsim import Scenario

    def build(**changes):
        small = {
            "stop.rounds": 3,
            "learning.model.hidden": [16],
            "learning.model.base": {"kind": "random"},
            "learning.data.public_images": 20,
            "learning.data.training_images": 120,
            "learning.data.test_images": 100,
            "network.devices.per_edge_server": 2,
            "record.evaluate_every": 2,
        }
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return Scenario.load("quickstart").with_overrides(small | dotted)

    return build
