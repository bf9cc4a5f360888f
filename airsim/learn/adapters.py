"""The trainable state of a federation: one shared low-rank adapter and one personal adapter per task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from airsim.randomness import RandomStreams


class LayerShape(NamedTuple):
    """Width of a linear layer on both sides."""

    inputs: int
    outputs: int


class AdapterRanks(NamedTuple):
    """Ranks of the shared and of the personal adapter; either may be zero."""

    shared: int
    personal: int


@dataclass(frozen=True)
class LoRAFactors:
    """One low-rank update ``B A``, or a stack of them along the leading axes."""

    a: Float[Tensor, "*stack R I"]
    b: Float[Tensor, "*stack O R"]

    @property
    def rank(self) -> int:
        """The inner dimension of the product."""
        return self.a.shape[-2]

    @property
    def size(self) -> int:
        """Number of real entries of one update in a payload."""
        return self.a.shape[-2:].numel() + self.b.shape[-2:].numel()

    def take(self, index: int | Sequence[int]) -> "LoRAFactors":
        """Entries of the first stack axis: a view for one index, a copy for a sequence."""
        chosen = index if isinstance(index, int) else list(index)
        return LoRAFactors(self.a[chosen], self.b[chosen])

    def to(self, device: torch.device) -> "LoRAFactors":
        """The same factors on a device."""
        return LoRAFactors(self.a.to(device), self.b.to(device))

    def expand(self, num_devices: int) -> "LoRAFactors":
        """The same factors for every device: a view with one more leading axis."""
        a, b = self.a, self.b
        return LoRAFactors(a.expand(num_devices, *a.shape), b.expand(num_devices, *b.shape))

    def split(self, rank: int) -> tuple["LoRAFactors", "LoRAFactors"]:
        """Views of the first `rank` components and of the rest: the inverse of `fuse`."""
        head = LoRAFactors(self.a[..., :rank, :], self.b[..., :rank])
        return head, LoRAFactors(self.a[..., rank:, :], self.b[..., rank:])


def fuse(shared: LoRAFactors, personal: LoRAFactors) -> LoRAFactors:
    """One factor pair of rank ``R_s + R_p``, for ``B_s A_s + B_p A_p = [B_s B_p] [A_s; A_p]``."""
    return LoRAFactors(torch.cat((shared.a, personal.a), dim=-2), torch.cat((shared.b, personal.b), dim=-1))


@dataclass(frozen=True)
class DualAdapters:
    """The shared adapter of every layer, and the personal adapters with one leading entry per task."""

    shared: Mapping[str, LoRAFactors]
    personal: Mapping[str, LoRAFactors]

    @property
    def has_trained_heads(self) -> bool:
        """Whether some layer is personal as a whole, as a trained head is: its ``b`` has no outputs."""
        return any(factors.b.shape[-2] == 0 for factors in self.personal.values())

    @property
    def num_tasks(self) -> int:
        """Number of personal adapters."""
        return next(iter(self.personal.values())).a.shape[0]

    @property
    def ranks(self) -> AdapterRanks:
        """Ranks of both adapters, the same in every layer."""
        return AdapterRanks(next(iter(self.shared.values())).rank, next(iter(self.personal.values())).rank)

    def for_task(self, task: int) -> dict[str, LoRAFactors]:
        """What the devices of one task add to the base: both adapters, fused layer by layer."""
        return {name: fuse(self.shared[name], self.personal[name].take(task)) for name in self.shared}

    def for_devices(self, tasks: Sequence[int]) -> "DualAdapters":
        """One leading entry per device: the shared adapter expanded, the personal ones chosen by task."""
        shared = {name: factors.expand(len(tasks)) for name, factors in self.shared.items()}
        return DualAdapters(shared, {name: factors.take(tasks) for name, factors in self.personal.items()})

    def to(self, device: torch.device) -> "DualAdapters":
        """The same adapters on a device."""
        shared, personal = (
            {name: factors.to(device) for name, factors in part.items()}
            for part in (self.shared, self.personal)
        )
        return DualAdapters(shared, personal)

    def named_tensors(self) -> dict[str, Tensor]:
        """Every factor under a plain name such as ``personal.layer0.a``, for a file."""
        tensors = {}
        for kind, layers in (("shared", self.shared), ("personal", self.personal)):
            for name, factors in layers.items():
                tensors[f"{kind}.{name}.a"] = factors.a.contiguous()
                tensors[f"{kind}.{name}.b"] = factors.b.contiguous()
        return tensors


def initial_adapters(
    shapes: Mapping[str, LayerShape],
    num_tasks: int,
    ranks: AdapterRanks,
    init_scale: float,
    streams: RandomStreams,
) -> DualAdapters:
    """Adapters that change nothing yet: ``B = 0`` and ``A`` uniform in ``+-init_scale / sqrt(fan_in)``.

    All tasks start from the same personal ``A``.
    """
    shared, personal = {}, {}
    for index, (name, shape) in enumerate(shapes.items()):
        bound = init_scale / np.sqrt(shape.inputs)
        shared[name] = _initial_factors(
            shape, ranks.shared, bound, streams.generator("adapter-shared", index)
        )
        start = _initial_factors(shape, ranks.personal, bound, streams.generator("adapter-personal", index))
        personal[name] = LoRAFactors(start.a.repeat(num_tasks, 1, 1), start.b.repeat(num_tasks, 1, 1))
    return DualAdapters(shared, personal)


def _initial_factors(shape: LayerShape, rank: int, bound: float, rng: np.random.Generator) -> LoRAFactors:
    a = rng.uniform(-bound, bound, (rank, shape.inputs)).astype(np.float32)
    return LoRAFactors(torch.from_numpy(a), torch.zeros(shape.outputs, rank))


def payload_size(layers: Mapping[str, LoRAFactors]) -> int:
    """Number of real entries ``D`` of one payload."""
    return sum(factors.size for factors in layers.values())


def flatten(layers: Mapping[str, LoRAFactors]) -> Float[Tensor, "*stack D"]:
    """The payload vector: layer by layer, the entries of ``B`` and then of ``A``, row by row."""
    parts = [part.flatten(start_dim=-2) for factors in layers.values() for part in (factors.b, factors.a)]
    return torch.cat(parts, dim=-1)


def unflatten(payload: Float[Tensor, "*stack D"], like: Mapping[str, LoRAFactors]) -> dict[str, LoRAFactors]:
    """Views of a payload as the factors of each layer: the inverse of `flatten`; `like` gives the shapes."""
    if payload.shape[-1] != payload_size(like):
        raise ValueError(
            f"payload has {payload.shape[-1]} entries but the adapters have {payload_size(like)}: "
            "unflatten with the adapters it was made for"
        )
    layers, start = {}, 0
    for name, factors in like.items():
        sizes = (factors.b.shape[-2:].numel(), factors.a.shape[-2:].numel())
        b, a = payload[..., start : start + sum(sizes)].split(sizes, dim=-1)
        a, b = (x.unflatten(-1, like_x.shape[-2:]) for x, like_x in ((a, factors.a), (b, factors.b)))
        layers[name] = LoRAFactors(a, b)
        start += sum(sizes)
    return layers
