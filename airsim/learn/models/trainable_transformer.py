"""An encoder or decoder of Hugging Face whose own parameters are trained, device by device."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.learn.models.heads import ClassificationHeads, mean_pooling
from airsim.learn.models.trainable import AbstractTrainable
from airsim.learn.models.transformer import TEXTS_PER_PASS, TransformerModel

HEADS = ("heads.weight", "heads.bias")


@final
@dataclass(frozen=True)
class TrainableTransformer(AbstractTrainable):
    """Parameters of a network, named as the network names them, and all tasks' heads where they are trained.

    A head is a parameter like any other: devices of other tasks leave it as they received it. Its input, the
    mean of the hidden states, is the representation. Each device has weights of its own, so devices pass one
    after the other.
    """

    model: TransformerModel
    names: tuple[str, ...]
    trains_heads: bool
    task: int = 0
    devices_side_by_side = 1
    heads_differ = True

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Network first, in its order and in float32 at least; then weights and biases of all heads."""
        own = dict(self.model.network.named_parameters())
        found = {name: _widened(own[name].detach()) for name in self.names}
        if self.trains_heads:
            heads = self._heads
            found |= dict(zip(HEADS, (heads.weight, heads.bias), strict=True))
        return found

    @property
    def _heads(self) -> ClassificationHeads:
        assert isinstance(self.model.objective, ClassificationHeads)
        return self.model.objective

    def for_task(self, task: int) -> "TrainableTransformer":
        """The same parameters, with answers by the head of one task."""
        return dataclasses.replace(self, task=task)

    def forward_with(
        self, parameters: Mapping[str, Tensor], x: Int[Tensor, "*stack B T"]
    ) -> tuple[Float[Tensor, "*stack B H"], Float[Tensor, "*stack B C"]]:
        """Mean hidden states and logits of texts, of one model or of one per device."""
        if x.dim() == 2:
            passed = [self._pass(parameters, part) for part in x.split(TEXTS_PER_PASS)]
            features, logits = (torch.cat(parts) for parts in zip(*passed, strict=True))
            return features, logits
        passed = [
            self._pass({name: stack[row] for name, stack in parameters.items()}, own)
            for row, own in enumerate(x)
        ]
        features, logits = (torch.stack(parts) for parts in zip(*passed, strict=True))
        return features, logits

    def _pass(
        self, parameters: Mapping[str, Tensor], x: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B C"]]:
        output, mask = self.model.network_output(x, {name: parameters[name] for name in self.names})
        pooled, heads = mean_pooling(output.last_hidden_state, mask), self._heads
        if self.trains_heads:
            weight, bias = (parameters[name] for name in HEADS)
            heads = ClassificationHeads(weight, bias, heads.num_classes)
        return pooled, heads.for_task(self.task).answers(pooled, None).squeeze(0)

    def full_flops_per_sample(self) -> int:
        """As with adapters of rank 0, and ``2 I O`` per token for the gradient of each trained matrix."""
        shapes = self.model.layer_shapes.items()
        trained = sum(one.inputs * one.outputs for name, one in shapes if f"{name}.weight" in self.names)
        return self.model.flops_per_sample(0) + 2 * self.model.sequence_length * trained

    def forward_flops_per_sample(self) -> int:
        """Per token ``2 I O`` for a linear layer, and ``4 T D`` per layer for the products of attention."""
        return self.model.forward_flops_per_sample()


def train_everything(model: TransformerModel, trains_heads: bool) -> TrainableTransformer:
    """All parameters that the hidden states depend on; others, such as an unused pooler's, stay frozen.

    `model` should be adapted on all linear layers: its `layer_shapes` are what is counted as trained.
    """
    own = {name: parameter.detach().requires_grad_() for name, parameter in model.network.named_parameters()}
    token = torch.zeros(1, 1, dtype=torch.int64, device=next(iter(own.values())).device)
    with torch.enable_grad():
        output, _ = model.network_output(token, own)
        reached = torch.autograd.grad(output.last_hidden_state.sum(), list(own.values()), allow_unused=True)
    names = [name for name, gradient in zip(own, reached, strict=True) if gradient is not None]
    return TrainableTransformer(model, tuple(names), trains_heads)


def train_adapted_layers(model: TransformerModel, trains_heads: bool) -> TrainableTransformer:
    """The weights of the layers that could carry adapters instead: ``d n`` numbers each, and no biases."""
    names: Sequence[str] = [f"{name}.weight" for name in model.layer_shapes]
    return TrainableTransformer(model, tuple(names), trains_heads)


def _widened(parameter: Tensor) -> Tensor:
    return parameter.to(torch.promote_types(parameter.dtype, torch.float32))
