r"""A linear layer with a low-rank adapter: values, and gradients written out.

.. math:: y = x W_0^T + b + h B^T, \qquad h = c\,x A^T, \qquad p = c\,d B, \qquad \partial x = d W_0 + p A

with the loss derivative :math:`d` at the output and the scale :math:`c`. The gradients of the factors are
:math:`d^T h` and :math:`p^T x`. Two adapters are one: :math:`A = [A_s; A_n]`, :math:`B = [B_s\,B_n]`.
"""

import abc
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad

from airsim.learn.adapters import LoRAFactors
from airsim.learn.frozen import base_gradient, base_product

# Thin products run at full speed in tiles of this width: 200 x 16 takes a third of the time of 200 x 10.
COMPONENT_TILE = 16


class AbstractLinear(abc.ABC):
    """A layer as forward and backward pass see it; the rows ``P`` are samples, or samples times positions."""

    adapted = True

    @abc.abstractmethod
    def forward(
        self, x: Float[Tensor, "*stack P I"], product: Float[Tensor, "*stack P O"] | None = None
    ) -> tuple[Float[Tensor, "*stack P O"], Float[Tensor, "*stack P R"]]:
        """Output ``y`` and inner activation ``h``; `product` is ``x W_0^T + b`` where it is known."""

    @abc.abstractmethod
    def project(self, d: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack P R"]:
        """The derivative on the inner side of ``B``: ``p = c d B``."""

    @abc.abstractmethod
    def input_gradient(
        self, d: Float[Tensor, "*stack P O"], projected: Float[Tensor, "*stack P R"]
    ) -> Float[Tensor, "*stack P I"]:
        """The loss derivative at the layer's input."""


@final
@dataclass(frozen=True)
class FrozenLinear(AbstractLinear):
    """A layer without an adapter."""

    adapted = False

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, "O"]

    def forward(
        self, x: Float[Tensor, "*stack P I"], product: Float[Tensor, "*stack P O"] | None = None
    ) -> tuple[Float[Tensor, "*stack P O"], Float[Tensor, "*stack P R"]]:
        y = base_product(x, self.weight, self.bias) if product is None else product
        return y, x[..., :0]

    def project(self, d: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack P R"]:
        return d[..., :0]

    def input_gradient(
        self, d: Float[Tensor, "*stack P O"], projected: Float[Tensor, "*stack P R"]
    ) -> Float[Tensor, "*stack P I"]:
        return base_gradient(d, self.weight)


@final
@dataclass(frozen=True)
class AdaptedLinear(AbstractLinear):
    """Base and adapter side by side; the factors may carry the same leading axes as the samples."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, "O"]
    factors: LoRAFactors
    scale: float

    def forward(
        self, x: Float[Tensor, "*stack P I"], product: Float[Tensor, "*stack P O"] | None = None
    ) -> tuple[Float[Tensor, "*stack P O"], Float[Tensor, "*stack P R"]]:
        inner = (x @ self.factors.a.mT) * self.scale
        base = base_product(x, self.weight, self.bias) if product is None else product
        return base + inner @ self.factors.b.mT, inner

    def project(self, d: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack P R"]:
        return (d @ self.factors.b) * self.scale

    def input_gradient(
        self, d: Float[Tensor, "*stack P O"], projected: Float[Tensor, "*stack P R"]
    ) -> Float[Tensor, "*stack P I"]:
        return base_gradient(d, self.weight) + projected @ self.factors.a


@final
@dataclass(frozen=True)
class DeviceLinear(AbstractLinear):
    """The layer of one device that trains alone: adapter products are added onto those of the base in place.

    All transposes are views, made once, that follow the factors as they change. Rounding differs from
    `AdaptedLinear` in the order of one sum.
    """

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, "O"]
    a: Float[Tensor, "R I"]
    b: Float[Tensor, "O R"]
    inwards: Float[Tensor, "I R"]
    outwards: Float[Tensor, "R O"]
    scale: float
    blank: Float[Tensor, "1"]

    def forward(
        self, x: Float[Tensor, "P I"], product: Float[Tensor, "P O"] | None = None
    ) -> tuple[Float[Tensor, "P O"], Float[Tensor, "P R"]]:
        inner = self._scaled(x, self.inwards)
        if product is None:
            return base_product(x, self.weight, self.bias).addmm_(inner, self.outwards), inner
        return torch.addmm(product, inner, self.outwards), inner

    def project(self, d: Float[Tensor, "P O"]) -> Float[Tensor, "P R"]:
        return self._scaled(d, self.b)

    def input_gradient(
        self, d: Float[Tensor, "P O"], projected: Float[Tensor, "P R"]
    ) -> Float[Tensor, "P I"]:
        return base_gradient(d, self.weight).addmm_(projected, self.a)

    def _scaled(self, left: Float[Tensor, "P I"], right: Float[Tensor, "I R"]) -> Float[Tensor, "P R"]:
        if self.scale == 1.0:
            return torch.mm(left, right)
        # With beta zero nothing is read of the first argument, and the scale costs no pass of its own.
        return torch.addmm(self.blank, left, right, beta=0, alpha=self.scale)


def for_device(
    weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"], factors: LoRAFactors, scale: float
) -> DeviceLinear:
    """The layer of one device, looking at factors that may change in place."""
    a, b = factors.a, factors.b
    return DeviceLinear(weight, bias, a, b, a.mT, b.mT, scale, a.new_empty(1))


@final
@dataclass(frozen=True)
class MergedLinear(AbstractLinear):
    """The adapter merged into the weight, for devices that all hold the same adapter.

    One product of base size does the work of three. Rounding differs from `AdaptedLinear`; the merged weight
    has the adapter's type, so that a base of lower precision is rounded only where it is stored.
    """

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, "O"]
    inwards: Float[Tensor, "I R"]
    outwards: Float[Tensor, "O R"]
    outwards_plain: Float[Tensor, "R O"]

    def forward(
        self, x: Float[Tensor, "*stack P I"], product: Float[Tensor, "*stack P O"] | None = None
    ) -> tuple[Float[Tensor, "*stack P O"], Float[Tensor, "*stack P R"]]:
        inner = x @ self.inwards
        if product is None:
            return linear(x, self.weight, self.bias), inner
        rows, thin = product.flatten(end_dim=-2), inner.flatten(end_dim=-2)
        return torch.addmm(rows, thin, self.outwards_plain).view(product.shape), inner

    def project(self, d: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack P R"]:
        return d @ self.outwards

    def input_gradient(
        self, d: Float[Tensor, "*stack P O"], projected: Float[Tensor, "*stack P R"]
    ) -> Float[Tensor, "*stack P I"]:
        return d @ self.weight


def absorb(
    weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"], factors: LoRAFactors, scale: float
) -> FrozenLinear:
    """A layer whose weight is ``W_0 + c B A``, without an adapter of its own."""
    dtype = factors.a.dtype
    return FrozenLinear(weight.to(dtype) + scale * (factors.b @ factors.a), bias.to(dtype))


def merge(
    weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"], factors: LoRAFactors, scale: float
) -> MergedLinear:
    """A layer that has absorbed its adapter, with the factors laid out as the products read them fastest.

    Inner activations get components that stay zero, up to a multiple of `COMPONENT_TILE`.
    """
    missing = -factors.rank % COMPONENT_TILE if factors.rank > 1 else 0
    a, b = pad(factors.a, (0, 0, 0, missing)), pad(factors.b, (0, missing))
    alone = absorb(weight, bias, factors, scale)
    return MergedLinear(
        alone.weight,
        alone.bias,
        (scale * a).mT.contiguous(),
        scale * b,
        b.mT.contiguous(),
    )
