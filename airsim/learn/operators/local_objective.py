"""What FedProx, SCAFFOLD and MOON add to a device's objective or gradient, for a training loop."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = Mapping[str, Tensor]


def proximal_term(parameters: Parameters, anchor: Parameters, weight: float) -> Float[Tensor, ""]:
    r""":math:`(\mu/2) \|w - w_t\|^2`, with the model of the last broadcast as anchor. Source: [FedProx]."""
    squares = [(x - anchor[name]).square().sum() for name, x in parameters.items()]
    return 0.5 * weight * torch.stack(squares).sum()


def proximal_gradient(parameters: Parameters, anchor: Parameters, weight: float) -> dict[str, Tensor]:
    r"""Gradient of the proximal term, :math:`\mu (w - w_t)`; stacks of devices may share one anchor."""
    return {name: weight * (x - anchor[name]) for name, x in parameters.items()}


def corrected_gradient(gradient: Parameters, own: Parameters, common: Parameters) -> dict[str, Tensor]:
    """SCAFFOLD's direction ``g - c_k + c``. Source: [SCAFFOLD]."""
    return {name: x - own[name] + common[name] for name, x in gradient.items()}


def next_control(
    own: Parameters, common: Parameters, start: Parameters, end: Parameters, step_sum: float
) -> dict[str, Tensor]:
    r"""A device's new control variate, :math:`c_k - c + (x - y_k)/(\tau\eta_l)` (option II of [SCAFFOLD]).

    `step_sum` is the number of local steps times the local learning rate. With plain steps it is the mean of
    the gradients that the device met.
    """
    if not step_sum > 0:
        raise ValueError(f"step_sum = {step_sum}: give local steps times learning rate, above 0")
    return {name: x - common[name] + (start[name] - end[name]) / step_sum for name, x in own.items()}


def contrastive_loss(
    features: Float[Tensor, "*stack B F"],
    common: Float[Tensor, "*stack B F"],
    previous: Float[Tensor, "*stack B F"],
    temperature: float,
) -> Float[Tensor, "*stack B"]:
    r"""MOON's term per sample: near the global model's representation, away from the device's previous one.

    .. math:: -\log\frac{e^{\cos(z, z_g)/\tau}}{e^{\cos(z, z_g)/\tau} + e^{\cos(z, z_p)/\tau}}

    Only z carries a gradient: both other models are fixed. Source: [MOON].
    """
    near = torch.nn.functional.cosine_similarity(features, common.detach(), dim=-1) / temperature
    far = torch.nn.functional.cosine_similarity(features, previous.detach(), dim=-1) / temperature
    return torch.nn.functional.softplus(far - near)
