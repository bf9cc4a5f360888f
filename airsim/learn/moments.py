"""Sums and squares of the entries that each device would send, stream by stream."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LayerShape

# Gram products of P x P stand in for a device's factor gradient where P^2 (R + W) is below this multiple of R
# W: what its entries cost to write, square and weigh, in multiplications each; estimated from the times of
# single products.
GRAM_ADVANTAGE = 20


@dataclass(frozen=True)
class PayloadMoments:
    """Per device and stream (shared, personal): sum of the payload's entries, and sum of their squares."""

    sums: Float[Tensor, "K J"]
    squares: Float[Tensor, "K J"]
    entries: tuple[int, ...]

    @property
    def mean(self) -> Float[Tensor, "K J"]:
        """Mean of a payload's entries; an empty payload has none and gives nan."""
        return self.sums / self.sums.new_tensor(self.entries)

    @property
    def second_moment(self) -> Float[Tensor, "K J"]:
        """Mean square of a payload's entries; an empty payload has none and gives nan."""
        return self.squares / self.squares.new_tensor(self.entries)


@dataclass(frozen=True)
class StreamLayout:
    """How many components of each layer's fused factors travel in each stream.

    ``{"layer0": (6, 2)}``: the first six components are shared, the last two personal.
    """

    components: Mapping[str, tuple[int, ...]]

    @property
    def num_streams(self) -> int:
        """Payloads per device."""
        return len(next(iter(self.components.values())))

    def membership(self, name: str, inner: Float[Tensor, "*stack R"]) -> Float[Tensor, "J R"]:
        """One where a component of a layer travels in a stream, zero elsewhere and where R is filled up."""
        sizes = self.components[name]
        rows = inner.new_zeros(len(sizes), inner.shape[-1])
        start = 0
        for stream, size in enumerate(sizes):
            rows[stream, start : start + size] = 1.0
            start += size
        return rows

    def entries(self, shapes: Mapping[str, LayerShape]) -> tuple[int, ...]:
        """Real entries of each stream's payload."""
        return tuple(
            sum(sizes[stream] * sum(shapes[name]) for name, sizes in self.components.items())
            for stream in range(self.num_streams)
        )


def entry_sums(thin: Float[Tensor, "K P R"], wide: Float[Tensor, "K P W"]) -> Float[Tensor, "K R"]:
    r"""Per device and component, the sum of the entries of ``thin^T wide``: :math:`\sum_P t_{Pr} (w_P 1)`."""
    return (thin.mT @ wide.sum(dim=-1, keepdim=True)).squeeze(-1)


def entry_squares(thin: Float[Tensor, "K P R"], wide: Float[Tensor, "K P W"]) -> Float[Tensor, "K R"]:
    r"""Per device and component, the sum of squared entries of ``thin^T wide``, which is not formed.

    .. math:: \sum_w \Big(\sum_P t_{Pr} w_{Pw}\Big)^2 = t_r^T (W W^T) t_r
    """
    return ((wide @ wide.mT @ thin) * thin).sum(dim=-2)


def prefers_gram(rows: int, components: int, width: int) -> bool:
    """Whether Gram products of the rows cost less than the entries of one device's factor gradient."""
    return rows * rows * (components + width) < GRAM_ADVANTAGE * components * width
