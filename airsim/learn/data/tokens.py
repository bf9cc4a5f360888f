"""Turn texts into rows of token numbers, once."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from airsim.errors import DataError
from airsim.learn.data.tasks import Split
from airsim.learn.data.text import TextSource


@dataclass(frozen=True)
class TokenisedSource:
    """A task whose texts are rows of token numbers, filled up with -1."""

    name: str
    train: Split
    test: Split
    num_classes: int
    checksum: str


@dataclass(frozen=True)
class Encoder:
    """A tokeniser of Hugging Face that cuts texts at `max_length` tokens; what it did is kept in memory."""

    tokeniser: Any
    max_length: int
    known: dict[str, TokenisedSource] = field(default_factory=dict, repr=False)

    def encode(self, source: TextSource) -> TokenisedSource:
        """The source as token numbers; the same object when the same texts come again.

        Raises:
            DataError: a text has no tokens.
        """
        if source.checksum not in self.known:
            splits = [
                Split(self.rows(f"{source.name}: {what}", split.texts), torch.from_numpy(split.labels))
                for what, split in (("train", source.train), ("test", source.test))
            ]
            self.known[source.checksum] = TokenisedSource(
                source.name, splits[0], splits[1], source.num_classes, source.checksum
            )
        return self.known[source.checksum]

    def rows(self, what: str, texts: tuple[str, ...]) -> Int[Tensor, "M T"]:
        """One row per text, as long as the longest, filled up with -1; `what` is named in errors."""
        encoded = self.tokeniser(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        rows = torch.full((len(texts), max(map(len, encoded))), -1)
        for row, numbers in enumerate(encoded):
            if not numbers:
                raise DataError(f"{what}: text {row} ({texts[row]!r}) has no tokens; leave it out")
            rows[row, : len(numbers)] = torch.tensor(numbers)
        return rows
