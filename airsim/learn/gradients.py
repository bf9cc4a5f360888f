"""Per-device gradients of devices that hold the same adapters, in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from airsim.learn.adapters import LoRAFactors
from airsim.learn.data.tasks import Split
from airsim.learn.lora import adapted_linear, input_gradient
from airsim.learn.models.mlp import FrozenMLP


@dataclass(frozen=True)
class PaddedBatch:
    """One batch per device, filled up with rows that weigh nothing; true rows weigh one over their number."""

    x: Num[Tensor, "K B F"]
    y: Int[Tensor, "K B"]
    weights: Float[Tensor, "K B"]


@dataclass(frozen=True)
class DeviceGradients:
    """Mean loss and gradient of every device, for the fused factors of each layer."""

    losses: Float[Tensor, "K"]
    layers: Mapping[str, LoRAFactors]


def pad(batches: Sequence[Split]) -> PaddedBatch:
    """Batches of different sizes side by side."""
    like = batches[0].x
    dtype = like.dtype if like.is_floating_point() else torch.float64  # token numbers have no such type
    weights = [like.new_full((batch.size,), 1.0 / batch.size, dtype=dtype) for batch in batches]
    columns = ([batch.x for batch in batches], [batch.y for batch in batches], weights)
    return PaddedBatch(*(pad_sequence(column, batch_first=True) for column in columns))


def device_gradients(
    model: FrozenMLP, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch
) -> DeviceGradients:
    r"""Gradient of each device's mean cross-entropy with respect to the fused adapters.

    With :math:`d` the loss derivative at a layer's output, :math:`x` its input and :math:`h = c x A^T`,

    .. math:: \nabla B_k = \sum_{i \in k} d_i h_i^T, \qquad \nabla A_k = c \sum_{i \in k} B^T d_i x_i^T.

    Frozen weights need no gradient, so these two small products are all that differs between devices.
    """
    inputs, inners = [batch.x], []
    for index, name in enumerate(model.layer_names):
        y, inner = adapted_linear(inputs[-1], model.weights[index], model.biases[index], layers[name], scale)
        inputs.append(torch.relu(y))
        inners.append(inner)
    losses, gradient = _cross_entropy(y, batch)
    gradients = {}
    for index, name in reversed(list(enumerate(model.layer_names))):
        projected = (gradient @ layers[name].b) * scale
        gradients[name] = LoRAFactors(projected.mT @ inputs[index], gradient.mT @ inners[index])
        if index:
            passed_on = input_gradient(gradient, projected, model.weights[index], layers[name])
            gradient = passed_on * (inputs[index] > 0)
    return DeviceGradients(losses, {name: gradients[name] for name in model.layer_names})


def _cross_entropy(
    logits: Float[Tensor, "K B C"], batch: PaddedBatch
) -> tuple[Float[Tensor, "K"], Float[Tensor, "K B C"]]:
    """Mean loss of each device, and the derivative at the logits: ``(softmax - one hot) / B_k``."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    labels, weights = batch.y.unsqueeze(-1), batch.weights.unsqueeze(-1)
    losses = -(log_probabilities.gather(-1, labels) * weights).sum(dim=(1, 2))
    errors = log_probabilities.exp().scatter_add_(-1, labels, -torch.ones_like(weights))
    return losses, errors * weights
