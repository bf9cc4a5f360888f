"""The open boxes of one problem, best first."""

from dataclasses import fields

import numpy as np
from jaxtyping import Int

from optim.proof.nodes import Nodes, joined


class Frontier:
    """Boxes in no order, in a store that doubles when it is full; the lowest bounds leave first."""

    def __init__(self, nodes: Nodes) -> None:
        self._store, self._count = nodes, len(nodes)

    def __len__(self) -> int:
        return self._count

    @property
    def bound(self) -> float:
        """The lowest bound among the open boxes; infinite without any."""
        return float(self._store.bound[: self._count].min(initial=np.inf))

    def pop(self, number: int) -> Nodes:
        """The `number` boxes with the lowest bounds, or all."""
        if number < self._count:
            lowest = np.argpartition(self._store.bound[: self._count], number - 1)[:number]
        else:
            lowest = np.arange(self._count)
        popped = self._store.taken(lowest)
        self._fill(lowest)
        return popped

    def push(self, nodes: Nodes) -> None:
        """Add boxes."""
        needed = self._count + len(nodes)
        if needed > len(self._store):
            room = self._store.taken(np.zeros(max(needed, len(self._store)), dtype=np.intp))
            self._store = joined([self._store, room])
        for field in fields(Nodes):
            getattr(self._store, field.name)[self._count : needed] = getattr(nodes, field.name)
        self._count = needed

    def _fill(self, gone: Int[np.ndarray, "_"]) -> None:
        """Move the last boxes into the places of those that left."""
        self._count -= len(gone)
        last = np.arange(self._count, self._count + len(gone))
        staying, holes = np.setdiff1d(last, gone), gone[gone < self._count]
        for field in fields(Nodes):
            array = getattr(self._store, field.name)
            array[holes] = array[staying]
