"""What devices' optimisers remember of whole models; `local_state.py` is the one of adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from airsim.learn.optimisers import AbstractOptimiser, new_slots


@dataclass(frozen=True)
class ModelMemory:
    """Steps taken and slots filled, one leading entry per device."""

    counts: Int[Tensor, "K"]
    slots: Mapping[str, tuple[Tensor, ...]]

    def take(self, rows: Sequence[int]) -> "ModelMemory":
        """A copy of what is remembered of some devices."""
        chosen = list(rows)
        slots = {name: tuple(slot[chosen] for slot in kept) for name, kept in self.slots.items()}
        return ModelMemory(self.counts[chosen], slots)

    def put(self, rows: Sequence[int], changed: "ModelMemory") -> "ModelMemory":
        """The same memory with some devices' part replaced."""
        result = self.take(range(len(self.counts)))
        result.write(rows, changed)
        return result

    def write(self, rows: Sequence[int], changed: "ModelMemory") -> None:
        """Replace some devices' part in place."""
        chosen = list(rows)
        self.counts[chosen] = changed.counts
        for name, kept in self.slots.items():
            for slot, new in zip(kept, changed.slots[name], strict=True):
                slot[chosen] = new


def fresh_memory(optimiser: AbstractOptimiser, parameters: Mapping[str, Tensor]) -> ModelMemory:
    """The memory before the first step of devices with these stacked parameters."""
    first = next(iter(parameters.values()))
    slots = {name: new_slots(optimiser, x) for name, x in parameters.items()}
    return ModelMemory(torch.zeros(len(first), dtype=torch.int64, device=first.device), slots)
