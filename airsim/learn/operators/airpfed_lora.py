"""AirPFed-LoRA: one gradient step per round, shared by all and personal to each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import DualAdapters, LoRAFactors, payload_size, unflatten


class PayloadSizes(NamedTuple):
    """Real entries of a device's two payloads."""

    shared: int
    personal: int


@dataclass(frozen=True)
class AirPFedLoRA:
    r"""The base station steps the shared adapter, every edge server the personal adapter of its task.

    .. math:: W \leftarrow W - \eta\,\hat G

    for each factor, with the aggregates weighted by data size: over all devices for the shared adapter, over
    the devices of task n for the personal one. [Sun, Theorem 2] bounds this step.
    """

    learning_rate: float

    def payload_sizes(self, adapters: DualAdapters) -> PayloadSizes:
        """What one device sends in a round; independent of the number of devices."""
        return PayloadSizes(payload_size(adapters.shared), payload_size(adapters.personal))

    def apply(
        self,
        adapters: DualAdapters,
        shared_gradient: Float[Tensor, "Ds"],
        personal_gradients: Float[Tensor, "E Dp"],
    ) -> DualAdapters:
        """The adapters of the next round; those passed in are left as they are."""
        return DualAdapters(
            self._step(adapters.shared, unflatten(shared_gradient, adapters.shared)),
            self._step(adapters.personal, unflatten(personal_gradients, adapters.personal)),
        )

    def _step(
        self, layers: Mapping[str, LoRAFactors], gradients: Mapping[str, LoRAFactors]
    ) -> dict[str, LoRAFactors]:
        return {
            name: LoRAFactors(
                factors.a - self.learning_rate * gradients[name].a.to(factors.a.dtype),
                factors.b - self.learning_rate * gradients[name].b.to(factors.b.dtype),
            )
            for name, factors in layers.items()
        }
