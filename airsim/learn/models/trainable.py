"""What methods on full parameters ask of a model: its own parameters, and a pass with others instead."""

import abc
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class AbstractTrainable(abc.ABC):
    """A model whose own parameters are trained; one set of them, or one per device along the leading axis.

    `devices_side_by_side` are trained in one pass. Where `heads_differ`, devices of different tasks are not.
    """

    devices_side_by_side: int
    heads_differ: bool

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by name; payloads are laid out in this order."""

    @abc.abstractmethod
    def forward_with(self, parameters: Mapping[str, Tensor], x: Any) -> tuple[Tensor, Tensor]:
        """The representation that the last layer reads, and logits, with other parameters."""

    @abc.abstractmethod
    def for_task(self, task: int) -> "AbstractTrainable":
        """The model with the head of a task, where heads differ."""

    @abc.abstractmethod
    def full_flops_per_sample(self) -> int:
        """Floating point operations of one sample's forward and backward pass."""

    @abc.abstractmethod
    def forward_flops_per_sample(self) -> int:
        """The same of the forward pass alone."""
