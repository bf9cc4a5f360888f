"""A frozen linear layer with a low-rank adapter: values, and gradients written out."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from airsim.learn.adapters import LoRAFactors


def adapted_linear(
    x: Float[Tensor, "*stack B I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, "O"],
    factors: LoRAFactors,
    scale: float,
) -> tuple[Float[Tensor, "*stack B O"], Float[Tensor, "*stack B R"]]:
    r"""The layer's output and the adapter's inner activation ``h = c x A^T``, which the gradient needs.

    .. math:: y = x W_0^T + b + c\,(x A_s^T) B_s^T + c\,(x A_n^T) B_n^T = x W_0^T + b + (c\,x A^T) B^T

    with :math:`A = [A_s; A_n]`, :math:`B = [B_s\,B_n]` and the scale :math:`c`. The base is shared by
    the whole stack of devices; the factors may carry the same leading axes as ``x``.
    """
    inner = (x @ factors.a.mT) * scale
    return linear(x, weight, bias) + inner @ factors.b.mT, inner


def input_gradient(
    output_gradient: Float[Tensor, "*stack B O"],
    projected: Float[Tensor, "*stack B R"],
    weight: Float[Tensor, "O I"],
    factors: LoRAFactors,
) -> Float[Tensor, "*stack B I"]:
    """The loss derivative at the layer's input, ``d W_0 + (c d B) A`` with ``c d B`` as `projected`."""
    return output_gradient @ weight + projected @ factors.a
