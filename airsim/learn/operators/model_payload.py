"""Whole models as vectors: one payload for every device, written in the order of its parameters."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.operators.base import Transmission

Parameters = Mapping[str, Tensor]


def expand(parameters: Parameters, num_devices: int) -> dict[str, Tensor]:
    """The same parameters for every device, as views."""
    return {name: x.expand(num_devices, *x.shape) for name, x in parameters.items()}


def flatten_model(parameters: Parameters) -> Float[Tensor, "D"]:
    """One model's parameters as a vector."""
    return torch.cat([x.flatten() for x in parameters.values()])


def flatten_stack(parameters: Parameters) -> Float[Tensor, "K D"]:
    """The parameters of many devices, one row each."""
    return torch.cat([x.flatten(start_dim=1) for x in parameters.values()], dim=1)


def flatten_moves(new: Parameters, old: Parameters) -> Float[Tensor, "K D"]:
    """`flatten_stack` of new parameters minus that of old ones, written once."""
    first = next(iter(new.values()))
    sizes = [x[0].numel() for x in new.values()]
    moves = first.new_empty(len(first), sum(sizes))
    for (name, x), entries in zip(new.items(), moves.split(sizes, dim=1), strict=True):
        torch.sub(x, old[name], out=entries.unflatten(1, x.shape[1:]))
    return moves


def like_parameters(vector: Float[Tensor, "D"], like: Parameters) -> dict[str, Tensor]:
    """A vector as parameters of these shapes: the inverse of `flatten_model`."""
    parts = vector.split([x.numel() for x in like.values()])
    return {
        name: part.reshape(x.shape).to(x.dtype) for (name, x), part in zip(like.items(), parts, strict=True)
    }


def everything(payload: Float[Tensor, "K D"]) -> Transmission:
    """A payload of which every entry is sent."""
    return Transmission(
        payload, torch.ones_like(payload, dtype=torch.bool), payload.new_zeros(len(payload), 0)
    )
