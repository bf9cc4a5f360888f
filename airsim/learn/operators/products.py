"""The mean product of devices: from single uploads or from one dense sum, and its best approximation."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import (
    AdapterView,
    folded,
    no_control,
    require_known_ranks,
    send_factors,
    spread,
)
from airsim.learn.operators.base import OnAir, Sends, Transmission
from airsim.learn.operators.payload import Live, everywhere

# How a method that is not linear in its factors travels: every upload in a slot of its own, or the dense
# products superposed, in which it is linear.
Route = Literal["orthogonal", "dense"]
# Where the singular values go: B = U S and A = V^T, or the root of S to both.
Split = Literal["left", "even"]


def class_of_route(route: Route) -> OnAir:
    """The on-air class of a method that needs products."""
    return OnAir.LINEAR if route == "dense" else OnAir.NONLINEAR


def send_products(
    before: AdapterStack, after: AdapterStack, view: AdapterView, sends: Sends, route: Route
) -> Transmission:
    """The factors of each device in its own slot, or its dense products ``g_k B_k A_k`` to be superposed."""
    if route == "orthogonal":
        return send_factors(before, after, view, everywhere(view.state.layers, Live.BOTH), sends)
    require_known_ranks(after, view)
    payload = flatten_dense(dense_products(after, view))
    if sends == "change":
        payload = payload - flatten_dense(dense_products(before, view))
    return Transmission(payload, torch.ones_like(payload, dtype=torch.bool), no_control(payload))


def dense_products(stack: AdapterStack, view: AdapterView) -> dict[str, Float[Tensor, "K O I"]]:
    """``g_k B_k A_k`` of every device and layer."""
    layers = folded(stack, view.state).layers
    return {name: view.state.scale(name) * (factors.b @ factors.a) for name, factors in layers.items()}


def dense_mean(total: Float[Tensor, "D"], view: AdapterView, sends: Sends) -> dict[str, Float[Tensor, "O I"]]:
    """The mean product from its noisy dense sum, what the devices held added back where changes were sent."""
    mean = unflatten_dense(total, view.state.layers)
    if sends == "factors":
        return mean
    held = folded(spread(view.state, view.participants.ranks), view.state)
    known = weighted_products(held.layers, view)
    return {name: mean[name] + known[name].b @ known[name].a for name in mean}


def weighted_products(layers: Mapping[str, LoRAFactors], view: AdapterView) -> dict[str, LoRAFactors]:
    r"""The mean product :math:`\sum_k p_k g_k B_k A_k` as one wide product of factors that have travelled."""
    weights = view.participants.weights
    wide = {}
    for name, factors in layers.items():
        weight = (weights * view.state.scale(name)).to(factors.b)[:, None, None]
        b = (factors.b * weight).transpose(0, 1).flatten(start_dim=1)  # K O R -> O K R -> O KR
        wide[name] = LoRAFactors(factors.a.flatten(end_dim=1), b)
    return wide


def best_rank(product: LoRAFactors | Tensor, rank: int, split: Split) -> LoRAFactors:
    """The nearest product of this rank in the Frobenius norm: the truncated SVD ``U_r S_r V_r^T`` [Eckart36].

    A wide product of few components is reduced by two QR factorisations first. Components that the matrix
    does not have are 0.
    """
    u, s, vh = _svd(product)
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    left = s if split == "left" else s.sqrt()
    right = torch.ones_like(s) if split == "left" else s.sqrt()
    missing = rank - s.shape[0]
    a = torch.nn.functional.pad(right.unsqueeze(-1) * vh, (0, 0, 0, missing))
    return LoRAFactors(a, torch.nn.functional.pad(u * left, (0, missing)))


def flatten_dense(products: Mapping[str, Tensor]) -> Float[Tensor, "*stack D"]:
    """Dense matrices as one vector, layer by layer, row by row."""
    return torch.cat([product.flatten(start_dim=-2) for product in products.values()], dim=-1)


def unflatten_dense(
    payload: Float[Tensor, "*stack D"], like: Mapping[str, LoRAFactors]
) -> dict[str, Float[Tensor, "*stack O I"]]:
    """The matrices of a dense payload: the inverse of `flatten_dense`; `like` gives the shapes."""
    shapes = {name: (factors.b.shape[-2], factors.a.shape[-1]) for name, factors in like.items()}
    parts = payload.split([rows * columns for rows, columns in shapes.values()], dim=-1)
    return {
        name: part.unflatten(-1, shape).to(like[name].a.dtype)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def dense_size(like: Mapping[str, LoRAFactors]) -> int:
    """Entries of all dense matrices."""
    return sum(factors.b.shape[-2] * factors.a.shape[-1] for factors in like.values())


def _svd(product: LoRAFactors | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(product, Tensor):
        return torch.linalg.svd(product, full_matrices=False)
    if product.rank >= min(product.b.shape[-2], product.a.shape[-1]):
        return torch.linalg.svd(product.b @ product.a, full_matrices=False)
    columns, upper = torch.linalg.qr(product.b)
    rows, lower = torch.linalg.qr(product.a.mT)
    u, s, vh = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
    return columns @ u, s, vh @ rows.mT
