"""A frozen linear layer inside any network, with one low-rank adapter per device."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from airsim.learn.adapters import LayerShape, LoRAFactors


@dataclass(frozen=True)
class InstalledAdapters:
    """What every adapted layer adds during one pass: factors by layer name, all with the leading axis K.

    `weights` take the place of frozen ones, as (outputs, inputs).
    """

    layers: Mapping[str, LoRAFactors]
    scale: float
    weights: Mapping[str, Tensor]


# A context variable, not an attribute of the network: two threads may pass two chunks through one base.
_INSTALLED: ContextVar[InstalledAdapters | None] = ContextVar("installed adapters", default=None)


@contextlib.contextmanager
def installed(
    layers: Mapping[str, LoRAFactors], scale: float, weights: Mapping[str, Tensor]
) -> Iterator[None]:
    """Every frozen layer that `layers` names carries its adapter, on its new weight, while this lasts."""
    token = _INSTALLED.set(InstalledAdapters(layers, scale, weights))
    try:
        yield
    finally:
        _INSTALLED.reset(token)


class NetworkLinear(torch.nn.Module):
    """``x W^T + b`` with a weight that is never trained, and an installed adapter's ``c (x A^T) B^T``.

    Takes the place of a linear layer and keeps its parameters under their names. `transposed` says that the
    weight is stored as (inputs, outputs), as in GPT-2. The rows of `x` belong to the devices in order,
    equally many to each.
    """

    def __init__(self, name: str, weight: Tensor, bias: Tensor | None, transposed: bool) -> None:
        super().__init__()
        self.name, self.transposed = name, transposed
        self.weight = torch.nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else torch.nn.Parameter(bias.detach(), requires_grad=False)

    @property
    def matrix(self) -> Tensor:
        """The weight as (outputs, inputs)."""
        return self.weight.mT if self.transposed else self.weight

    @property
    def shape(self) -> LayerShape:
        """Widths on both sides."""
        outputs, inputs = self.matrix.shape
        return LayerShape(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output in the type of its input."""
        adapters = _INSTALLED.get()
        matrix = self.matrix if adapters is None else adapters.weights.get(self.name, self.matrix)
        if adapters is None or self.name not in adapters.layers:
            return frozen_product(x, matrix, self.bias)
        factors = adapters.layers[self.name]
        rows = x.reshape(factors.a.shape[0], -1, x.shape[-1])  # K (B T) I
        y = _AdaptedProduct.apply(rows, factors.a, factors.b, (matrix, self.bias), adapters.scale)
        return y.view(*x.shape[:-1], y.shape[-1])


def frozen_product(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b``, multiplied in the type of the weight and returned in the type of ``x``."""
    if x.dtype == matrix.dtype:
        return linear(x, matrix, bias)
    y = linear(x.to(matrix.dtype), matrix).to(x.dtype)
    return y if bias is None else y + bias


class _AdaptedProduct(torch.autograd.Function):
    r"""The adapted layer with its gradients written out; only ``x`` and the inner activation are kept.

    With :math:`d` the derivative at the output, :math:`h = c\,x A^T` and :math:`p = c\,d B`,

    .. math:: \nabla_x = d W_0 + p A, \qquad \nabla_A = p^T x, \qquad \nabla_B = d^T h,

    separately for each device: factors that are one tensor expanded over K get K gradients.
    """

    @staticmethod
    def forward(
        context: Any,
        x: Float[Tensor, "K M I"],
        a: Float[Tensor, "K R I"],
        b: Float[Tensor, "K O R"],
        base: tuple[Tensor, Tensor | None],
        scale: float,
    ) -> Float[Tensor, "K M O"]:
        inner = _inwards(x, a.mT).mul_(scale)
        context.save_for_backward(x, a, b, inner)
        context.matrix, context.scale = base[0], scale
        return _add_outwards(frozen_product(x, *base), inner, b.mT)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d,) = gradients
        x, a, b, inner = context.saved_tensors
        projected = _inwards(d, b).mul_(context.scale)
        passed_on = None
        if context.needs_input_grad[0]:
            passed_on = _add_outwards(frozen_product(d, context.matrix.mT, None), projected, a)
        # Thin times wide is up to four times as fast as wide times thin.
        return passed_on, projected.mT @ x, (inner.mT @ d).mT, None, None


def _inwards(x: Float[Tensor, "K M I"], factor: Float[Tensor, "K I R"]) -> Float[Tensor, "K M R"]:
    """``x`` times a factor with few columns: one product per device, or one where all share the factor."""
    # With every column in one piece, twice as fast as with every row.
    if _is_shared(factor):
        return (x.flatten(0, 1) @ factor[0].mT.contiguous().mT).view(*x.shape[:2], -1)
    return torch.bmm(x, factor.mT.contiguous().mT)


def _add_outwards(
    y: Float[Tensor, "K M O"], x: Float[Tensor, "K M R"], factor: Float[Tensor, "K R O"]
) -> Float[Tensor, "K M O"]:
    """``y`` with ``x`` times a factor of few rows added in place, in the product itself."""
    if _is_shared(factor):
        y.flatten(0, 1).addmm_(x.flatten(0, 1), factor[0])
        return y
    return y.baddbmm_(x, factor)


def _is_shared(factor: Float[Tensor, "K _ _"]) -> bool:
    return factor.shape[0] > 1 and factor.stride(0) == 0


def freeze_linears(
    network: torch.nn.Module, chosen: Callable[[str], bool], base_dtype: torch.dtype | None
) -> dict[str, NetworkLinear]:
    """Put a `NetworkLinear` in the place of linear layers, and return the chosen ones by name.

    Linear layers are `torch.nn.Linear` and the ``Conv1D`` of GPT-2. With `base_dtype` all of them are
    replaced, and their weights are kept and multiplied in that type; everything else keeps its own.
    """
    found = {}
    for name, module in list(network.named_modules()):
        if not is_linear(module) or not (chosen(name) or base_dtype):
            continue
        weight = module.weight if base_dtype is None else module.weight.to(base_dtype)
        frozen = NetworkLinear(name, weight, module.bias, type(module) is not torch.nn.Linear)
        network.set_submodule(name, frozen)
        if chosen(name):
            found[name] = frozen
    return found


def is_linear(module: torch.nn.Module) -> bool:
    """Whether an adapter can be put on this layer."""
    return type(module) is torch.nn.Linear or type(module).__name__ == "Conv1D"
