"""Per-device gradients of a cohort in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch, pad
from airsim.learn.models.base import AbstractBaseModel, LayerTrace

__all__ = ["DeviceGradients", "PaddedBatch", "device_gradients", "factor_gradients", "pad"]


@dataclass(frozen=True)
class DeviceGradients:
    """Mean loss and gradient of every device, for the fused factors of each layer."""

    losses: Float[Tensor, "K"]
    layers: Mapping[str, LoRAFactors]


def device_gradients(
    model: AbstractBaseModel, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch
) -> DeviceGradients:
    r"""Gradient of each device's mean cross-entropy with respect to the fused adapters.

    The adapters are common to all devices, or stacked: one pair of factors per device, smaller ranks filled
    up with zeros, whose gradients are zero as well. With :math:`d` the loss derivative at a layer's output,
    :math:`x` its input and :math:`h = c x A^T`,

    .. math:: \nabla B_k = \sum_{i \in k} d_i h_i^T, \qquad \nabla A_k = c \sum_{i \in k} B^T d_i x_i^T.

    Frozen weights need no gradient, so these two small products are all that differs between devices.
    """
    passed = model.backpropagate(batch, model.linears(layers, scale))
    return DeviceGradients(
        passed.losses, {name: factor_gradients(trace) for name, trace in passed.traces.items()}
    )


def factor_gradients(trace: LayerTrace) -> LoRAFactors:
    """Gradients ``p^T x`` and ``d^T h`` of every device's factors."""
    return LoRAFactors(trace.projected.mT @ trace.x, trace.d.mT @ trace.inner)
