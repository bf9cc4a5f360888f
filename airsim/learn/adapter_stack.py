"""The adapters of many devices side by side, padded to one rank."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from airsim.learn.adapters import LoRAFactors


class AbstractScaling(abc.ABC):
    """The factor ``g`` before ``B A``, by rank: one rule for devices and server."""

    @abc.abstractmethod
    def of(self, ranks: Int[Tensor, "*stack"]) -> Float[Tensor, "*stack"]:
        """``g`` of adapters of these ranks, in double precision."""


@final
@dataclass(frozen=True)
class CommonScaling(AbstractScaling):
    """The same ``g`` at every rank."""

    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale = {self.scale}: an adapter is scaled by a positive number")

    def of(self, ranks: Int[Tensor, "*stack"]) -> Float[Tensor, "*stack"]:
        """``g = scale``."""
        return torch.full(ranks.shape, self.scale, dtype=torch.float64, device=ranks.device)


@final
@dataclass(frozen=True)
class RankScaling(AbstractScaling):
    """``g = alpha / r``: devices of different ranks scale differently."""

    alpha: float

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"alpha = {self.alpha}: an adapter is scaled by a positive number")

    def of(self, ranks: Int[Tensor, "*stack"]) -> Float[Tensor, "*stack"]:
        """``g = alpha / r``."""
        return self.alpha / ranks.double()


@dataclass(frozen=True)
class AdapterStack:
    """The adapters of K devices; entries beyond a device's rank are exactly 0.

    A layer may be padded to less than the largest rank, and then cuts the rank of its devices there.
    """

    layers: Mapping[str, LoRAFactors]
    ranks: Int[Tensor, "K"]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers is empty: an adapter stack needs at least one adapted layer")
        for name, factors in self.layers.items():
            if factors.a.ndim != 3 or factors.a.shape[0] != self.num_devices:
                raise ValueError(
                    f"layers[{name!r}].a has shape {tuple(factors.a.shape)} for {self.num_devices} devices: "
                    "give (K, R, I), with one entry per device"
                )
        _require_ranks(self.ranks, max(factors.rank for factors in self.layers.values()))

    @property
    def num_devices(self) -> int:
        """Devices in the stack."""
        return self.ranks.shape[0]

    def layer_ranks(self, name: str) -> Int[Tensor, "K"]:
        """Rank of every device in one layer."""
        return self.ranks.clamp(max=self.layers[name].rank)

    def take(self, rows: Sequence[int]) -> "AdapterStack":
        """Some of the devices, by their place in the stack."""
        chosen = list(rows)
        return AdapterStack({n: f.take(chosen) for n, f in self.layers.items()}, self.ranks[chosen])

    def put(self, rows: Sequence[int], stack: "AdapterStack") -> "AdapterStack":
        """The same stack with these devices replaced; the one at hand is left as it is."""
        chosen = list(rows)
        layers, ranks = {}, self.ranks.clone()
        for name, factors in self.layers.items():
            a, b = factors.a.clone(), factors.b.clone()
            a[chosen], b[chosen] = stack.layers[name].a, stack.layers[name].b
            layers[name] = LoRAFactors(a, b)
        ranks[chosen] = stack.ranks
        return AdapterStack(layers, ranks)

    def truncate(self, ranks: Int[Tensor, "K"]) -> "AdapterStack":
        """Every device cut to its new rank: what lies beyond becomes 0."""
        lower = torch.minimum(ranks, self.ranks)
        layers = {name: cut(factors, rank_mask(factors.rank, lower)) for name, factors in self.layers.items()}
        return AdapterStack(layers, lower)

    def of_device(self, row: int) -> dict[str, LoRAFactors]:
        """One device's adapters without padding, as views."""
        return {
            name: factors.take(row).split(int(self.layer_ranks(name)[row]))[0]
            for name, factors in self.layers.items()
        }

    def is_padded_with_zeros(self) -> bool:
        """Whether all entries beyond the ranks are exactly 0."""
        return all(
            not (factors.a[~(own := rank_mask(factors.rank, self.ranks))].any() or factors.b.mT[~own].any())
            for factors in self.layers.values()
        )


def stack_common(layers: Mapping[str, LoRAFactors], ranks: Int[Tensor, "K"]) -> AdapterStack:
    """The same adapter for every device, cut to its rank; a view where no rank is cut."""
    spread = {name: factors.expand(ranks.shape[0]) for name, factors in layers.items()}
    whole = max(factors.rank for factors in layers.values())
    _require_ranks(ranks, whole)
    if bool((ranks == whole).all()):
        return AdapterStack(spread, ranks)
    return AdapterStack({name: cut(f, rank_mask(f.rank, ranks)) for name, f in spread.items()}, ranks)


def stack_devices(devices: Sequence[Mapping[str, LoRAFactors]], rank: int | None = None) -> AdapterStack:
    """The adapters of devices of different ranks, padded with zeros to `rank` (default: the largest).

    A device must have the same rank in all layers.
    """
    ranks = []
    for index, layers in enumerate(devices):
        own = {factors.rank for factors in layers.values()}
        if len(own) != 1:
            raise ValueError(f"devices[{index}] has ranks {sorted(own)}: give one rank for all layers")
        ranks.append(own.pop())
    padded = max(ranks) if rank is None else rank
    if padded < max(ranks):
        raise ValueError(f"rank = {padded} cannot hold devices of rank {max(ranks)}: give at least that")
    layers = {
        name: LoRAFactors(
            torch.stack([_pad(own[name].a, padded) for own in devices]),
            torch.stack([_pad(own[name].b.mT, padded).mT for own in devices]),
        )
        for name in devices[0]
    }
    return AdapterStack(layers, torch.tensor(ranks))


def rank_mask(padded_rank: int, ranks: Int[Tensor, "K"]) -> Bool[Tensor, "K R"]:
    """Which components a device has: the first ``r_k`` of the padded rank."""
    return torch.arange(padded_rank, device=ranks.device) < ranks.unsqueeze(-1)


def cut(factors: LoRAFactors, mask: Bool[Tensor, "*stack R"]) -> LoRAFactors:
    """The factors with the components outside the mask set to 0, also where they are not finite."""
    missing = ~mask.to(factors.a.device)
    a = factors.a.masked_fill(missing.unsqueeze(-1), 0.0)
    return LoRAFactors(a, factors.b.masked_fill(missing.unsqueeze(-2), 0.0))


def _pad(rows: Float[Tensor, "r X"], rank: int) -> Float[Tensor, "R X"]:
    return torch.cat((rows, rows.new_zeros(rank - rows.shape[0], rows.shape[1])))


def _require_ranks(ranks: Int[Tensor, "K"], padded: int) -> None:
    wrong = ((ranks < 1) | (ranks > padded)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"ranks[{wrong[0]}] = {int(ranks[wrong[0]])}: give a rank from 1 to the padded rank {padded}"
        )
