"""AirPFed-LoRA: one gradient step per round, shared by all and personal to each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import DualAdapters, LoRAFactors, payload_size, unflatten
from airsim.learn.local_state import OptimiserState
from airsim.learn.operators.server_step import HeardGradients, ServerMemory, no_memory, stepped
from airsim.learn.optimisers import SGD, AbstractOptimiser


class PayloadSizes(NamedTuple):
    """Real entries of a device's two payloads."""

    shared: int
    personal: int


@dataclass(frozen=True)
class AirPFedLoRA:
    r"""The base station steps the shared adapter, every edge server the personal adapter of its task.

    .. math:: W \leftarrow W - \eta\,\hat G

    for each factor, with the aggregates weighted by data size: over all devices for the shared adapter, over
    the devices of task n for the personal one. [Sun, Theorem 2] bounds this step. With an `optimiser`, its
    step (momentum, Adam) takes the place of the plain one; `learning_rate` is then that of the optimiser.
    """

    learning_rate: float
    optimiser: AbstractOptimiser | None = None

    def payload_sizes(self, adapters: DualAdapters) -> PayloadSizes:
        """What one device sends in a round; independent of the number of devices."""
        return PayloadSizes(payload_size(adapters.shared), payload_size(adapters.personal))

    def start(self, adapters: DualAdapters) -> ServerMemory:
        """What receivers remember before the first round; plain steps only count."""
        return no_memory(self.optimiser or SGD(self.learning_rate), adapters)

    def step(
        self, adapters: DualAdapters, memory: ServerMemory, heard: HeardGradients
    ) -> tuple[DualAdapters, ServerMemory]:
        """Adapters and memory of the next round; those passed in are left as they are.

        A task that was not heard keeps its personal adapter, and what its edge server remembers.
        """
        common = {name: factors.expand(1) for name, factors in adapters.shared.items()}
        shared, base_station = self._advance(common, heard.shared.unsqueeze(0), memory.shared)
        personal, edge_servers = self._personal(adapters, memory.personal, heard)
        shared = {name: factors.take(0) for name, factors in shared.items()}
        return DualAdapters(shared, personal), ServerMemory(base_station, edge_servers)

    def _personal(
        self, adapters: DualAdapters, state: OptimiserState, heard: HeardGradients
    ) -> tuple[dict[str, LoRAFactors], OptimiserState]:
        """The personal adapters of all tasks, and what their edge servers remember."""
        tasks = heard.tasks
        if tasks == tuple(range(adapters.num_tasks)):
            return self._advance(adapters.personal, heard.personal, state)
        own = {name: factors.take(tasks) for name, factors in adapters.personal.items()}
        moved, remembered = self._advance(own, heard.personal, state.take(tasks))
        personal = {name: _put(adapters.personal[name], tasks, new) for name, new in moved.items()}
        return personal, state.put(tasks, remembered)

    def apply(
        self,
        adapters: DualAdapters,
        shared_gradient: Float[Tensor, "Ds"],
        personal_gradients: Float[Tensor, "E Dp"],
    ) -> DualAdapters:
        """The adapters after a first step with all tasks heard."""
        heard = HeardGradients(shared_gradient, personal_gradients, tuple(range(adapters.num_tasks)))
        return self.step(adapters, self.start(adapters), heard)[0]

    def _advance(
        self, layers: Mapping[str, LoRAFactors], payload: Float[Tensor, "K D"], state: OptimiserState
    ) -> tuple[dict[str, LoRAFactors], OptimiserState]:
        gradients = unflatten(payload, layers)
        if self.optimiser is not None:
            return stepped(self.optimiser, layers, gradients, state)
        # Written out: a fused multiply-add, as in the optimisers, would round differently.
        after = {
            name: LoRAFactors(
                factors.a - self.learning_rate * gradients[name].a.to(factors.a.dtype),
                factors.b - self.learning_rate * gradients[name].b.to(factors.b.dtype),
            )
            for name, factors in layers.items()
        }
        return after, OptimiserState(state.counts + 1, state.slots)


def _put(all_tasks: LoRAFactors, tasks: tuple[int, ...], new: LoRAFactors) -> LoRAFactors:
    places = torch.tensor(tasks, dtype=torch.int64, device=new.a.device)
    return LoRAFactors(all_tasks.a.index_copy(0, places, new.a), all_tasks.b.index_copy(0, places, new.b))
