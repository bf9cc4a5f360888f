"""From a scenario to everybody's samples, public and test sets."""

import functools
import os
from pathlib import Path

from airsim.builders import texts
from airsim.builders.partitions import PARTITIONED, build_partition
from airsim.errors import blaming
from airsim.learn.data.sources import ImageSource, load_digits, load_mnist
from airsim.learn.data.tasks import (
    FederatedData,
    FederationPlan,
    SplitSizes,
    TaskSpec,
    build_federated_data,
)
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario
from airsim.scenario.texts import TextData


@functools.cache
def load_source(name: str) -> ImageSource:
    """A data set by name; MNIST from `AIRSIM_DATA_DIR` if that is set, or downloaded once."""
    if name == "digits":
        return load_digits()
    folder = os.environ.get("AIRSIM_DATA_DIR")
    return load_mnist(Path(folder) if folder else None)


def build_data(scenario: Scenario, streams: RandomStreams) -> FederatedData:
    """Every device's samples, the public split and the test sets."""
    config = scenario.learning.data
    if isinstance(config, TextData):
        return texts.build_texts(scenario, config, streams)
    plan = FederationPlan(
        tasks=tuple(TaskSpec(task.swap, task.share) for task in config.tasks),
        devices_per_task=scenario.network.devices.per_edge_server,
        sizes=SplitSizes(config.public_images, config.training_images, config.test_images),
        camera=config.camera,
        partition=build_partition(config.partition),
    )
    with blaming("learning.data.name"):
        source = load_source(config.name)
    with blaming(*PARTITIONED, "learning.data.training_images"):
        return build_federated_data(source, plan, streams)
