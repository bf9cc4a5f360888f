"""Heads of all tasks as one part of what devices have in common, beside their adapters."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.heads import (
    AbstractObjective,
    ClassificationHeads,
    SampleScores,
    classification_scores,
)


@final
@dataclass(frozen=True)
class CommonHeads(AbstractObjective):
    """One task's head, read out of the heads of all tasks, which `head_layer` lays out."""

    heads: ClassificationHeads
    task: int = 0

    def logits(
        self, output: Any, mask: Bool[Tensor, "N T"], head: LoRAFactors | None
    ) -> Float[Tensor, "..."]:
        """Scores of the classes, of shape (K, B, C).

        Raises:
            ValueError: there is no trained head.
        """
        if head is None:
            raise ValueError("head = None: give the heads of all tasks (`head_layer`) beside the adapters")
        num_tasks, classes, _ = self.heads.weight.shape
        rows = head.a.squeeze(-2).unflatten(-1, (num_tasks, classes, -1))[..., self.task, :, :]
        own = LoRAFactors(rows, rows.new_zeros(*rows.shape[:-2], 0, classes))
        return self.heads.for_task(self.task).logits(output, mask, own)

    def scores(
        self, logits: Float[Tensor, "..."], tokens: Int[Tensor, "*samples T"], labels: Int[Tensor, "*samples"]
    ) -> SampleScores:
        """Whether the largest logit is the label's, and cross-entropy."""
        return classification_scores(logits, labels)

    def for_task(self, task: int) -> "CommonHeads":
        """The same heads, of which this task's is read."""
        return dataclasses.replace(self, task=task)

    def of_devices(self, devices: slice) -> "CommonHeads":
        """All devices of a pass read the same head."""
        return self

    def for_devices(self, tasks: Sequence[int]) -> "CommonHeads":
        """The head of the one task that all these devices have.

        Raises:
            ValueError: the devices are of several tasks.
        """
        if len(set(tasks)) != 1:
            raise ValueError(f"tasks = {tuple(tasks)}: pass the devices of each task on their own")
        return self.for_task(tasks[0])

    def to(self, device: torch.device) -> "CommonHeads":
        """The same heads on a device."""
        heads = self.heads
        moved = ClassificationHeads(
            heads.weight.to(device), heads.bias.to(device), heads.num_classes.to(device)
        )
        return dataclasses.replace(self, heads=moved)


def head_layer(heads: ClassificationHeads) -> LoRAFactors:
    """The rows ``[W b]`` of all tasks in the place of an ``a`` of rank 1, which no device's rank cuts."""
    rows = torch.cat((heads.weight, heads.bias.unsqueeze(-1)), dim=-1)
    return LoRAFactors(rows.reshape(1, -1), rows.new_zeros(0, 1))
