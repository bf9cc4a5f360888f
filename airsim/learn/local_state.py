"""What devices hold while they train: factors laid out for products, and their optimiser's memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.optimisers import AbstractOptimiser, new_slots


@dataclass(frozen=True)
class OptimiserState:
    """Steps taken and slots filled per device; hand it to the next round and the optimiser goes on."""

    counts: Int[Tensor, "K"]
    slots: Mapping[str, tuple[LoRAFactors, ...]]

    def take(self, devices: Sequence[int]) -> "OptimiserState":
        """A copy of what is remembered of some devices."""
        slots = {name: tuple(slot.take(devices) for slot in kept) for name, kept in self.slots.items()}
        return OptimiserState(self.counts[list(devices)], slots)

    def put(self, devices: Sequence[int], changed: "OptimiserState") -> "OptimiserState":
        """The same state with some devices' part replaced."""
        places = torch.tensor(list(devices), device=self.counts.device)
        slots = {
            name: tuple(
                LoRAFactors(old.a.index_copy(0, places, new.a), old.b.index_copy(0, places, new.b))
                for old, new in zip(kept, changed.slots[name], strict=True)
            )
            for name, kept in self.slots.items()
        }
        return OptimiserState(self.counts.index_copy(0, places, changed.counts), slots)


@dataclass(frozen=True)
class TrainedCohort:
    """Adapters after local training, one per device, with mean losses over the steps and optimiser state."""

    losses: Float[Tensor, "K"]
    layers: Mapping[str, LoRAFactors]
    state: OptimiserState


def fresh_state(
    optimiser: AbstractOptimiser, layers: Mapping[str, LoRAFactors], num_devices: int
) -> OptimiserState:
    """The state before the first step of devices with these adapters, common or stacked."""
    slots = {}
    for name, factors in layers.items():
        full = factors if factors.a.ndim == 3 else factors.expand(num_devices)
        a, b = new_slots(optimiser, full.a), new_slots(optimiser, full.b)
        slots[name] = tuple(LoRAFactors(*pair) for pair in zip(a, b, strict=True))
    device = next(iter(layers.values())).a.device
    return OptimiserState(torch.zeros(num_devices, dtype=torch.int64, device=device), slots)


def working_copy(factors: LoRAFactors, single: bool) -> LoRAFactors:
    """Factors of some devices to be changed in place, without their leading axis where there is one device.

    ``B`` is laid out transposed: then both gradients are products of a thin matrix by a wide one, which for
    small ranks is up to six times as fast as the other way round.
    """
    a, b = factors.a.clone(memory_format=torch.contiguous_format), factors.b.mT.contiguous().clone().mT
    return LoRAFactors(a.squeeze(0), b.squeeze(0)) if single else LoRAFactors(a, b)


def stacked(factors: LoRAFactors, single: bool) -> LoRAFactors:
    """A view of working factors with the leading axis of devices."""
    return LoRAFactors(factors.a.unsqueeze(0), factors.b.unsqueeze(0)) if single else factors
