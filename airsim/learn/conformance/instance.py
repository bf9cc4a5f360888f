"""A small federation in which everything can go wrong: mixed ranks, scales, weights, absent devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack, RankScaling, stack_common
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.base import Participants, participants_of
from airsim.learn.operators.payload import Live, LiveLayers
from airsim.randomness import RandomStreams

# Outputs and inputs: tall, wide, and one whose wide product of all participants is smaller than itself.
SHAPES = {"tall": (9, 4), "wide": (5, 8), "large": (16, 17)}
RANK = 3
MIXED_RANKS = (3, 1, 2, 3, 2)
LARGEST_SITS_OUT = (2, 3, 1, 2, 1)
EQUAL_RANKS = (RANK,) * 5
DATA_SIZES = (40.0, 10.0, 25.0, 5.0, 30.0)
PRESENT = (0, 2, 3, 4)
ALPHA = 7.5


@dataclass(frozen=True)
class Instance:
    """Five devices of which four take part, alpha / r of 2.5 at full rank, and three layers."""

    ranks: tuple[int, ...]
    streams: RandomStreams

    @property
    def scaling(self) -> RankScaling:
        """``alpha / r``."""
        return RankScaling(ALPHA)

    @property
    def num_devices(self) -> int:
        """Devices of the federation, absent ones included."""
        return len(self.ranks)

    @cached_property
    def participants(self) -> Participants:
        """Those of this round."""
        return participants_of(DATA_SIZES, self.ranks, PRESENT)

    @cached_property
    def base(self) -> dict[str, Float[Tensor, "O_ I_"]]:
        """Frozen weights."""
        return {name: self._draw("base", index, shape) for index, (name, shape) in enumerate(SHAPES.items())}

    @cached_property
    def state(self) -> AdapterState:
        """The last broadcast: neither factor is 0."""
        layers = {}
        for index, (name, (outputs, inputs)) in enumerate(SHAPES.items()):
            a = self._draw("common-a", index, (RANK, inputs))
            layers[name] = LoRAFactors(a, self._draw("common-b", index, (outputs, RANK)))
        return AdapterState(layers, self.scaling)

    @cached_property
    def kept(self) -> AdapterStack:
        """What all devices have of their own before the round: different in every device."""
        return self._changed(stack_common(self.state.layers, torch.tensor(self.ranks)), "own", None)

    def train(self, before: AdapterStack, live: LiveLayers) -> AdapterStack:
        """Stand-in for training: live factors shrink a little and move; some tails shrink, some grow."""
        return self._changed(before, "trained", live)

    def _draw(self, name: str, index: int, shape: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.streams.generator(name, index).standard_normal(tuple(shape)))

    def _changed(self, stack: AdapterStack, stream: str, live: LiveLayers | None) -> AdapterStack:
        layers: dict[str, LoRAFactors] = {}
        for index, (name, factors) in enumerate(stack.layers.items()):
            moved = live[name] if live is not None else Live.BOTH
            a = 0.5 * self._draw(f"{stream}-a", index, factors.a.shape) - 0.2 * factors.a
            b = 0.5 * self._draw(f"{stream}-b", index, factors.b.shape) - 0.2 * factors.b
            layers[name] = LoRAFactors(factors.a + a * (Live.A in moved), factors.b + b * (Live.B in moved))
        return AdapterStack(layers, stack.ranks).truncate(stack.ranks)


@cache
def instance(ranks: tuple[int, ...], seed: int = 0) -> Instance:
    """An instance from a seed."""
    return Instance(ranks, RandomStreams(seed))


def largest_error(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest relative error of a matrix in the Frobenius norm."""
    if set(found) != set(wanted):
        raise ValueError(f"compared {sorted(found)} with {sorted(wanted)}: the same names are needed")
    return max(
        float(np.linalg.norm(found[name] - wanted[name]) / np.linalg.norm(wanted[name])) for name in wanted
    )
