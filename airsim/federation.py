"""Who learns what with whom: the devices of each stream, and what they weigh."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Federation:
    """Who learns what: the devices of each task, their data sizes, the ranks and the symbols per upload.

    `entries` of both payloads are given where they are not as the ranks, since heads are among them;
    `receivers` are the numbers of the streams in the whole federation, where some of them are silent.
    """

    members: tuple[tuple[int, ...], ...]
    data_sizes: Float[np.ndarray, "K"]
    rank_shared: int
    rank_personal: int
    symbols_shared: int
    symbols_personal: int
    entries: tuple[int, int] | None = None
    receivers: tuple[int, ...] | None = None

    def receiver_of(self, stream: int) -> int:
        """The receiver of a stream, by which its noise is addressed: 0 is the base station."""
        return stream if self.receivers is None else self.receivers[stream]

    @property
    def shares(self) -> tuple[float, float] | None:
        """What part of the entries travels in which phase, where the ranks do not say it."""
        if self.entries is None:
            return None
        return self.entries[0] / sum(self.entries), self.entries[1] / sum(self.entries)

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The devices of each stream."""
        return (tuple(range(len(self.data_sizes))), *self.members)

    @cached_property
    def row_in_task(self) -> Mapping[int, int]:
        """Where a device stands among the devices of its task."""
        return {device: row for own in self.members for row, device in enumerate(own)}

    @property
    def task_weights(self) -> Float[np.ndarray, "E"]:
        """``D_n / D``."""
        sizes = np.array([self.data_sizes[list(own)].sum() for own in self.members])
        return sizes / self.data_sizes.sum()

    @property
    def stream_weights(self) -> Float[np.ndarray, "streams"]:
        """``R_s/R`` for the s-phase, ``R_p/R D_n/D`` for task n: the weights of the MSEs in Pi_t."""
        rank = self.rank_shared + self.rank_personal
        shared, personal = self.shares or (self.rank_shared / rank, self.rank_personal / rank)
        return np.concatenate([[shared], personal * self.task_weights])

    @property
    def aggregation_weights(self) -> tuple[Float[np.ndarray, "_"], ...]:
        """``D_k`` over the data of all devices of the stream."""
        sizes = [self.data_sizes[list(own)] for own in self.rows]
        return tuple(own / own.sum() for own in sizes)
