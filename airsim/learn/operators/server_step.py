"""Receivers that step by an optimiser with a memory: momentum or Adam on what they have heard."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import DualAdapters, LoRAFactors
from airsim.learn.local_state import OptimiserState, fresh_state
from airsim.learn.optimisers import AbstractOptimiser, DenseGradient


@dataclass(frozen=True)
class HeardGradients:
    """One round's aggregates: of the shared adapter, and one row for each task that was heard."""

    shared: Float[Tensor, "Ds"]
    personal: Float[Tensor, "heard Dp"]
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class ServerMemory:
    """What the receivers' optimisers remember: the base station one entry, the edge servers one per task."""

    shared: OptimiserState
    personal: OptimiserState


def no_memory(optimiser: AbstractOptimiser, adapters: DualAdapters) -> ServerMemory:
    """Before the first step."""
    return ServerMemory(
        fresh_state(optimiser, adapters.shared, 1),
        fresh_state(optimiser, adapters.personal, adapters.num_tasks),
    )


def stepped(
    optimiser: AbstractOptimiser,
    layers: Mapping[str, LoRAFactors],
    gradients: Mapping[str, LoRAFactors],
    state: OptimiserState,
) -> tuple[dict[str, LoRAFactors], OptimiserState]:
    """Stacked adapters and their state one step on; those passed in are left as they are."""
    counts = state.counts + 1
    after, slots = {}, {}
    for name, factors in layers.items():
        kept = state.slots[name]
        new_a, slots_a = _one(optimiser, factors.a, gradients[name].a, [slot.a for slot in kept], counts)
        new_b, slots_b = _one(optimiser, factors.b, gradients[name].b, [slot.b for slot in kept], counts)
        after[name] = LoRAFactors(new_a, new_b)
        slots[name] = tuple(LoRAFactors(*pair) for pair in zip(slots_a, slots_b, strict=True))
    return after, OptimiserState(counts, slots)


def _one(
    optimiser: AbstractOptimiser, before: Tensor, gradient: Tensor, kept: list[Tensor], counts: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    parameter, slots = before.clone(), tuple(slot.clone() for slot in kept)
    # One step counter per entry, shaped to go along with its factor.
    optimiser.step(parameter, DenseGradient(gradient.to(before.dtype)), slots, counts.view(-1, 1, 1))
    return parameter, slots
