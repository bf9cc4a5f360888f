"""From hidden states to losses: a classification head for every task, or the next token."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from airsim.learn.adapters import DualAdapters, LoRAFactors
from airsim.randomness import RandomStreams

HEAD = "head"


class SampleScores(NamedTuple):
    """For every sample whether it was answered rightly (or which share of it), and its loss."""

    right: Float[Tensor, "*samples"]
    losses: Float[Tensor, "*samples"]


class AbstractObjective(abc.ABC):
    """What a network's output is read for."""

    @abc.abstractmethod
    def logits(
        self, output: Any, mask: Bool[Tensor, "N T"], head: LoRAFactors | None
    ) -> Float[Tensor, "..."]:
        """Scores of the answers, from the network's output for ``N = K B`` texts; `head` if it is trained."""

    @abc.abstractmethod
    def scores(
        self, logits: Float[Tensor, "..."], tokens: Int[Tensor, "*samples T"], labels: Int[Tensor, "*samples"]
    ) -> SampleScores:
        """Right answers and losses, sample by sample."""

    @abc.abstractmethod
    def for_task(self, task: int) -> "AbstractObjective":
        """What the devices of this task use."""

    @abc.abstractmethod
    def of_devices(self, devices: slice) -> "AbstractObjective":
        """What some of the devices use that this objective is for."""

    @abc.abstractmethod
    def for_devices(self, tasks: Sequence[int]) -> "AbstractObjective":
        """What devices of these tasks use together, one leading entry each."""

    @abc.abstractmethod
    def to(self, device: torch.device) -> "AbstractObjective":
        """The same objective on a device."""


@final
@dataclass(frozen=True)
class ClassificationHeads(AbstractObjective):
    r"""A linear layer over the mean of the hidden states that the attention mask keeps.

    .. math:: z = W \bar h + b, \qquad \bar h = \sum_t m_t h_t / \sum_t m_t

    with one leading entry per task, or per device; none for a single task. Tasks with fewer than C classes
    are filled up; the classes that they lack have logit ``-inf``: they are never chosen and learn nothing.
    """

    weight: Float[Tensor, "*stack C D"]
    bias: Float[Tensor, "*stack C"]
    num_classes: Int[Tensor, "*stack"]

    def logits(
        self, output: Any, mask: Bool[Tensor, "N T"], head: LoRAFactors | None
    ) -> Float[Tensor, "..."]:
        """Scores of the classes, of shape (K, B, C), or (1, N, C) for a head that all share."""
        return self.answers(mean_pooling(output.last_hidden_state, mask), head)

    def answers(self, pooled: Float[Tensor, "N D"], head: LoRAFactors | None) -> Float[Tensor, "..."]:
        """The same from the mean hidden states."""
        weight, bias = (self.weight, self.bias) if head is None else (head.a[..., :-1], head.a[..., -1])
        grouped = pooled.view(weight.shape[0] if weight.dim() == 3 else 1, -1, pooled.shape[-1])
        scores = grouped @ weight.to(pooled.dtype).mT + bias.to(pooled.dtype).unsqueeze(-2)
        classes = torch.arange(weight.shape[-2], device=self.num_classes.device)
        lacking = classes >= self.num_classes.unsqueeze(-1)  # *stack C
        return scores.masked_fill(lacking.unsqueeze(-2), -torch.inf)

    def scores(
        self, logits: Float[Tensor, "..."], tokens: Int[Tensor, "*samples T"], labels: Int[Tensor, "*samples"]
    ) -> SampleScores:
        """Whether the largest logit is the label's, and cross-entropy."""
        return classification_scores(logits, labels)

    def for_task(self, task: int) -> "ClassificationHeads":
        """The head of one task."""
        return ClassificationHeads(self.weight[task], self.bias[task], self.num_classes[task])

    def of_devices(self, devices: slice) -> "ClassificationHeads":
        """The heads of some devices; a single head is everybody's."""
        if self.num_classes.dim() == 0:
            return self
        return ClassificationHeads(self.weight[devices], self.bias[devices], self.num_classes[devices])

    def for_devices(self, tasks: Sequence[int]) -> "ClassificationHeads":
        """The heads of these tasks, one leading entry per device."""
        chosen = list(tasks)
        return ClassificationHeads(self.weight[chosen], self.bias[chosen], self.num_classes[chosen])

    def to(self, device: torch.device) -> "ClassificationHeads":
        """The same heads on a device."""
        return ClassificationHeads(self.weight.to(device), self.bias.to(device), self.num_classes.to(device))


@final
@dataclass(frozen=True)
class NextToken(AbstractObjective):
    r"""Language modelling: the mean loss of a text's tokens after the first, given those before.

    .. math:: -\frac{1}{T_i - 1} \sum_{t=2}^{T_i} \log p(w_t \mid w_1 \ldots w_{t-1})

    Labels are not read. The network's own output layer gives the logits.
    """

    def logits(
        self, output: Any, mask: Bool[Tensor, "N T"], head: LoRAFactors | None
    ) -> Float[Tensor, "..."]:
        """Scores of the tokens at every position, of shape (1, N, T, V)."""
        return output.logits.unsqueeze(0)

    def scores(
        self, logits: Float[Tensor, "..."], tokens: Int[Tensor, "*samples T"], labels: Int[Tensor, "*samples"]
    ) -> SampleScores:
        """Share of tokens foreseen, and mean loss, of every text."""
        targets = tokens[..., 1 : logits.shape[-2]]  # a pass is cut to its longest text
        valid = (targets >= 0).to(logits.dtype)
        each = classification_scores(logits[..., :-1, :], targets.clamp(min=0))
        counts = valid.sum(dim=-1).clamp(min=1)
        return SampleScores(*((entries * valid).sum(dim=-1) / counts for entries in each))

    def for_task(self, task: int) -> "NextToken":
        """All tasks predict the next token."""
        return self

    def of_devices(self, devices: slice) -> "NextToken":
        """All devices predict the next token."""
        return self

    def for_devices(self, tasks: Sequence[int]) -> "NextToken":
        """All devices predict the next token."""
        return self

    def to(self, device: torch.device) -> "NextToken":
        """There is nothing to move."""
        return self


def mean_pooling(hidden: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N D"]:
    """Mean of the hidden states of a text's tokens."""
    weights = mask.to(hidden.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1), hidden).squeeze(1)


def classification_scores(
    logits: Float[Tensor, "*samples C"], labels: Int[Tensor, "*samples"]
) -> SampleScores:
    """Whether the largest logit is the label's, and cross-entropy, for every sample."""
    losses = cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
    return SampleScores((logits.argmax(dim=-1) == labels).to(losses.dtype), losses)


def random_heads(num_classes: Sequence[int], width: int, streams: RandomStreams) -> ClassificationHeads:
    """A head for every task with weights ``N(0, 1/D)`` and no bias."""
    most = max(num_classes)
    weight = torch.zeros(len(num_classes), most, width)
    for task, classes in enumerate(num_classes):
        drawn = streams.generator("head", task).standard_normal((classes, width)) / width**0.5
        weight[task, :classes] = torch.from_numpy(drawn)
    return ClassificationHeads(weight, torch.zeros(len(num_classes), most), torch.tensor(list(num_classes)))


def with_trained_heads(adapters: DualAdapters, heads: ClassificationHeads) -> DualAdapters:
    """Adapters whose personal part has the tasks' heads too, so that they are trained, sent and counted.

    A head travels as the rows ``[W b]`` in the place of ``a``; its ``b`` is empty and its shared rank zero.
    All tasks send as many entries as the one with most classes.
    """
    rows = torch.cat((heads.weight, heads.bias.unsqueeze(-1)), dim=-1)
    empty = LoRAFactors(rows.new_zeros(0, rows.shape[-1]), rows.new_zeros(0, 0))
    own = LoRAFactors(rows, rows.new_zeros(rows.shape[0], 0, rows.shape[1]))
    return DualAdapters({**adapters.shared, HEAD: empty}, {**adapters.personal, HEAD: own})
