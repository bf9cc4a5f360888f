"""How the samples of a task are shared out among its devices."""

from typing import Annotated, Literal

from pydantic import Field

from airsim.scenario.fields import Count, NotNegative, Positive, Section


class IidPartition(Section):
    """Samples dealt to the devices of a task at random."""

    kind: Literal["iid"] = "iid"
    min_images: Count = 2


class DirichletPartition(Section):
    """Class proportions of each device drawn from Dirichlet(concentration): small means one-sided."""

    kind: Literal["dirichlet"] = "dirichlet"
    concentration: Positive = 0.5
    min_images: Count = 2


class OneClassPartition(Section):
    """Each device holds a single class; at least as many devices as classes."""

    kind: Literal["one-class"] = "one-class"
    min_images: Count = 2


class ShardPartition(Section):
    """Samples sorted by class and cut into shards, of which each device draws some."""

    kind: Literal["shards"] = "shards"
    shards_per_device: Count = 2
    min_images: Count = 2


class UnequalPartition(Section):
    """Random samples in log-normal amounts: `spread` is the deviation of their logarithm."""

    kind: Literal["unequal"] = "unequal"
    spread: NotNegative = 1.0
    min_images: Count = 2


Partition = Annotated[
    IidPartition | DirichletPartition | OneClassPartition | ShardPartition | UnequalPartition,
    Field(discriminator="kind"),
]
