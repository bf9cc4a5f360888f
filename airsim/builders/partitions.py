"""From a partition of a scenario to its rule."""

from airsim.learn.data.partition import AbstractPartition, DirichletPartition, IidPartition
from airsim.learn.data.skew import OneClassPartition, ShardPartition, UnequalPartition
from airsim.scenario import partition as config

# The fields that decide how a task's samples are shared out, the first to look at first.
PARTITIONED = (
    "learning.data.partition.kind",
    "learning.data.partition.min_images",
    "network.devices.per_edge_server",
)


def build_partition(given: config.Partition) -> AbstractPartition:
    """The rule by which a task's devices share its samples."""
    if isinstance(given, config.IidPartition):
        return IidPartition(given.min_images)
    if isinstance(given, config.DirichletPartition):
        return DirichletPartition(given.concentration, given.min_images)
    if isinstance(given, config.OneClassPartition):
        return OneClassPartition(given.min_images)
    if isinstance(given, config.ShardPartition):
        return ShardPartition(given.shards_per_device, given.min_images)
    return UnequalPartition(given.spread, given.min_images)
