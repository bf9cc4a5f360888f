"""What the layers below the lowest adapter give for known texts, computed once."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_KNOWN: ContextVar[Tensor | None] = ContextVar("known activations", default=None)


@dataclass(frozen=True)
class LowerActivations:
    """Hidden states above the frozen lower layers, one row of tokens after the other.

    Exact as long as base and tokens are fixed. A row takes ``T D`` floats: 49 kB at 32 tokens of width 384.
    """

    row_of_tokens: Mapping[bytes, int]
    hidden: Float[Tensor, "M T D"]

    def find(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N T D"] | None:
        """The hidden states of these rows; None where one of them is not known."""
        rows = [self.row_of_tokens.get(key) for key in token_keys(tokens)]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows) or tokens.shape[1] > self.hidden.shape[1]:
            return None
        return self.hidden[known, : tokens.shape[1]]


def token_keys(tokens: Int[Tensor, "N T"]) -> list[bytes]:
    """What a row is known by: its tokens without the padding."""
    return [row[row >= 0].numpy().tobytes() for row in tokens.cpu()]


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
