"""Steps down a gradient, in place and for whole stacks of devices: SGD, momentum and AdamW.

Entries that are zero and have zero gradients stay exactly zero under all of them, so that factors filled up
to a common rank keep their zeros.
"""

import abc
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor


class AbstractGradient(abc.ABC):
    """A gradient that need not exist as a tensor before it is used."""

    @abc.abstractmethod
    def value(self) -> Tensor:
        """The gradient, entry by entry."""

    @abc.abstractmethod
    def add_to(self, target: Tensor, beta: float, alpha: float) -> None:
        """``target <- beta target + alpha gradient``, in place."""


@final
@dataclass(frozen=True)
class DenseGradient(AbstractGradient):
    """A gradient that is at hand, such as one from the air."""

    entries: Float[Tensor, "*shape"]

    def value(self) -> Tensor:
        return self.entries

    def add_to(self, target: Tensor, beta: float, alpha: float) -> None:
        if beta != 1.0:
            target.mul_(beta)
        target.add_(self.entries, alpha=alpha)


@final
@dataclass(frozen=True)
class FactorGradient(AbstractGradient):
    """``left right``, the sum over samples, plus a correction; added to its target in the product itself."""

    left: Float[Tensor, "*stack R P"]
    right: Float[Tensor, "*stack P W"]
    correction: Float[Tensor, "*stack R W"] | None = None

    def value(self) -> Tensor:
        product = self.left @ self.right
        return product if self.correction is None else product + self.correction

    def add_to(self, target: Tensor, beta: float, alpha: float) -> None:
        add_product = target.addmm_ if target.ndim == 2 else target.baddbmm_
        add_product(self.left, self.right, beta=beta, alpha=alpha)
        if self.correction is not None:
            target.add_(self.correction, alpha=alpha)


class AbstractOptimiser(abc.ABC):
    """One rule; what it remembers of each parameter (its slots) is kept by the caller."""

    num_slots: int

    @abc.abstractmethod
    def step(
        self,
        parameter: Float[Tensor, "*shape"],
        gradient: AbstractGradient,
        slots: tuple[Tensor, ...],
        count: Int[Tensor, "*ones"],
    ) -> None:
        """Change parameter and slots in place; `count` is the number of this step, from one, per device."""


@final
@dataclass(frozen=True)
class SGD(AbstractOptimiser):
    r""":math:`W \leftarrow W - \eta (g + \lambda W)`."""

    learning_rate: float
    weight_decay: float = 0.0
    num_slots = 0

    def step(
        self,
        parameter: Float[Tensor, "*shape"],
        gradient: AbstractGradient,
        slots: tuple[Tensor, ...],
        count: Int[Tensor, "*ones"],
    ) -> None:
        gradient.add_to(parameter, 1.0 - self.learning_rate * self.weight_decay, -self.learning_rate)


@final
@dataclass(frozen=True)
class Momentum(AbstractOptimiser):
    r""":math:`m \leftarrow \mu m + g + \lambda W` and :math:`W \leftarrow W - \eta m`."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    num_slots = 1

    def step(
        self,
        parameter: Float[Tensor, "*shape"],
        gradient: AbstractGradient,
        slots: tuple[Tensor, ...],
        count: Int[Tensor, "*ones"],
    ) -> None:
        (velocity,) = slots
        gradient.add_to(velocity, self.momentum, 1.0)
        if self.weight_decay:
            velocity.add_(parameter, alpha=self.weight_decay)
        parameter.add_(velocity, alpha=-self.learning_rate)


@final
@dataclass(frozen=True)
class AdamW(AbstractOptimiser):
    r"""Adaptive moments with decoupled decay; plain Adam where the decay is zero.

    .. math:: W \leftarrow (1 - \eta\lambda) W - \eta\,\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)}
              + \epsilon}

    with the decaying means m of g and v of its square. Source: [Loshchilov19].
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    num_slots = 2

    def step(
        self,
        parameter: Float[Tensor, "*shape"],
        gradient: AbstractGradient,
        slots: tuple[Tensor, ...],
        count: Int[Tensor, "*ones"],
    ) -> None:
        first, second = slots
        entries = gradient.value()
        first.lerp_(entries, 1.0 - self.betas[0])
        second.mul_(self.betas[1]).addcmul_(entries, entries, value=1.0 - self.betas[1])
        # In double, because 1 - beta^t loses half the digits of float32 when t is small.
        unbias = [1.0 - beta ** count.double() for beta in self.betas]
        rate = (self.learning_rate / unbias[0]).to(parameter.dtype)
        scale = second.sqrt().div_(unbias[1].sqrt().to(parameter.dtype)).add_(self.epsilon)
        if self.weight_decay:
            parameter.mul_(1.0 - self.learning_rate * self.weight_decay)
        parameter.sub_(first.div(scale).mul_(rate))


def new_slots(optimiser: AbstractOptimiser, parameter: Tensor) -> tuple[Tensor, ...]:
    """What the optimiser remembers before its first step."""
    return tuple(torch.zeros_like(parameter) for _ in range(optimiser.num_slots))
