"""Products with frozen weights, which may be stored in a lower precision than the adapters."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear


def base_product(
    x: Float[Tensor, "*stack P I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"]
) -> Float[Tensor, "*stack P O"]:
    """``x W_0^T + b`` in the type of ``x``; the product itself in the type of the weight."""
    if weight.dtype == x.dtype:
        return linear(x, weight, bias)
    return linear(x.to(weight.dtype), weight).to(x.dtype) + bias


def base_gradient(
    d: Float[Tensor, "*stack P O"], weight: Float[Tensor, "O I"]
) -> Float[Tensor, "*stack P I"]:
    """``d W_0`` in the type of ``d``; the product itself in the type of the weight."""
    if weight.dtype == d.dtype:
        return d @ weight
    return (d.to(weight.dtype) @ weight).to(d.dtype)


def has_fast_products(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products in this type are worth choosing: bfloat16 only where the chip multiplies it."""
    if dtype != torch.bfloat16:
        return True
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
