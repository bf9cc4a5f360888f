"""Random generators addressed by name and index."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomStreams:
    """Independent generators addressed by name and index: the same address gives the same draws.

    A new draw in one stream moves no other, whatever the order of the calls and the number of
    workers, so two methods compared on one seed meet the same fading, data and initial adapters.
    """

    seed: int

    def generator(self, name: str, *index: int) -> np.random.Generator:
        """A fresh generator at the start of the stream `name[index]`."""
        address = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, address, *index])))
