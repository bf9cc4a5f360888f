"""What the layers below the lowest adapter give for known texts, computed once."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

# An odd number without pattern: the multiplier of MMIX's generator.
_MULTIPLIER = 6364136223846793005
_KNOWN: ContextVar[Tensor | None] = ContextVar("known activations", default=None)


@dataclass(frozen=True)
class LowerActivations:
    """Hidden states above the frozen lower layers, one row of tokens after the other.

    Exact as long as base and tokens are fixed. A row takes ``T D`` floats: 49 kB at 32 tokens of width 384.
    """

    tokens: Int[Tensor, "M T"]
    hidden: Float[Tensor, "M T D"]

    def find(self, tokens: Int[Tensor, "N t"]) -> Float[Tensor, "N t D"] | None:
        """The hidden states of these rows, of equal rows the last; None where one of them is not known.

        Rows are looked up by a sum of their tokens and then compared, all where they are: nothing but the
        answer whether all are known leaves the device.
        """
        length = tokens.shape[1]
        if length > self.tokens.shape[1]:
            return None
        wanted = pad(tokens, (0, self.tokens.shape[1] - length), value=-1)
        order, sums = self._by_sum
        rows = order[(torch.searchsorted(sums, token_sums(wanted), right=True) - 1).clamp(min=0)]
        if not torch.equal(self.tokens[rows], wanted):
            return None
        return self.hidden[rows, :length]

    def to(self, device: torch.device) -> "LowerActivations":
        """The same on a device."""
        return LowerActivations(self.tokens.to(device), self.hidden.to(device))

    @cached_property
    def _by_sum(self) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
        """Rows in the order of their sums, equal ones as they stand, and these sums."""
        sums, order = token_sums(self.tokens).sort(stable=True)
        return order, sums


def token_sums(tokens: Int[Tensor, "N T"]) -> Int[Tensor, "N"]:
    """A number for every row, the same for equal rows: a polynomial in its tokens, modulo 2^64."""
    powers = tokens.new_full((tokens.shape[1],), _MULTIPLIER).cumprod(dim=0)
    return ((tokens + 2) * powers).sum(dim=1)


class LowerLayer(torch.nn.Module):
    """A layer below the lowest adapter: it computes, or lets pass what is known of the last such layer."""

    def __init__(self, block: torch.nn.Module, is_last: bool) -> None:
        super().__init__()
        self.block, self.is_last = block, is_last
        self.output: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """Networks ask some layers for their attributes, such as the kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, hidden: Tensor, *arguments: Any, **options: Any) -> Any:
        """The layer's output, or the known one."""
        known = _KNOWN.get()
        if known is None:
            output = self.block(hidden, *arguments, **options)
            _record(output)
            return output
        return known if self.is_last else hidden


_RECORD: ContextVar[list[Tensor] | None] = ContextVar("recorded activations", default=None)


def _record(output: Any) -> None:
    record = _RECORD.get()
    if record is not None:
        record[:] = [output if isinstance(output, Tensor) else output[0]]


@contextlib.contextmanager
def known_activations(hidden: Float[Tensor, "N T D"] | None) -> Iterator[None]:
    """Lower layers give `hidden` while this context lasts, and compute as usual where it is None."""
    token = _KNOWN.set(hidden)
    try:
        yield
    finally:
        _KNOWN.reset(token)


@contextlib.contextmanager
def recorded_activations() -> Iterator[list[Tensor]]:
    """A list that holds the output of the last lower layer after a pass."""
    record: list[Tensor] = []
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


def mark_lower_layers(network: torch.nn.Module, adapted: Sequence[str]) -> int:
    """Wrap the layers below the lowest adapter, and return how many there are.

    Layers are the entries of the one list of modules that holds every adapted layer; 0 where there is none.
    """
    places = [re.match(r"(.+?)\.(\d+)\.", name) for name in adapted]
    lists = {place[1] for place in places if place}
    if len(lists) != 1 or not all(places):
        return 0
    lowest = min(int(place[2]) for place in places if place)
    name = lists.pop()
    for index in range(lowest):
        block = network.get_submodule(f"{name}.{index}")
        network.set_submodule(f"{name}.{index}", LowerLayer(block, index == lowest - 1))
    return lowest
