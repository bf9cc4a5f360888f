"""Boxes of phases: one sector per device, and the open ones of a problem, best first."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

# A sector this wide or wider is no cone and bounds nothing.
CLOSED_WIDTH_RAD = np.pi * (1 - 1e-9)
# Parts of a full circle: with three, every sector is a cone.
PARTS = 3


@dataclass(frozen=True, eq=False)
class Nodes:
    """Boxes side by side: device k of a box arrives within ``centre_k +- width_k / 2``.

    `bound` is below the error of every point in the box, `point` the minimiser of the relaxation that says so,
    `level` says which multipliers it used, and `branch` names the device whose sector is cut next.
    """

    problem: Int[np.ndarray, "M"]
    centre_rad: Float[np.ndarray, "M K"]
    width_rad: Float[np.ndarray, "M K"]
    bound: Float[np.ndarray, "M"]
    level: Int[np.ndarray, "M"]
    point: Float[np.ndarray, "M d"]
    branch: Int[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.problem)

    def taken(self, chosen: np.ndarray) -> "Nodes":
        """The boxes of a mask or of positions."""
        return Nodes(*(getattr(self, field.name)[chosen] for field in fields(self)))


def joined(groups: list[Nodes]) -> Nodes:
    """All boxes in one row."""
    return Nodes(*(np.concatenate([getattr(g, field.name) for g in groups]) for field in fields(Nodes)))


def children(parents: Nodes) -> Nodes:
    """Every box cut across its branching device: a full circle in three, a sector in two.

    Children keep the bound of their parent until a better one is found.
    """
    every = np.arange(len(parents))
    width = parents.width_rad[every, parents.branch]
    parts = np.where(width >= CLOSED_WIDTH_RAD, PARTS, 2)
    origin = np.repeat(every, parts)
    position = np.arange(len(origin)) - np.repeat(np.cumsum(parts) - parts, parts)
    born, cut = parents.taken(origin), parents.branch[origin]
    narrow = (width / parts)[origin]
    offset = (position - (parts[origin] - 1) / 2) * narrow
    rows = np.arange(len(origin))
    born.centre_rad[rows, cut] += offset
    born.width_rad[rows, cut] = narrow
    return born


class Frontier:
    """The open boxes of one problem; the lowest bounds leave first."""

    def __init__(self, root: Nodes) -> None:
        self._store, self._count = root, len(root)

    def __len__(self) -> int:
        return self._count

    @property
    def bound(self) -> float:
        """The lowest bound among the open boxes; infinite without any."""
        return float(self._store.bound[: self._count].min(initial=np.inf))

    def pop(self, number: int) -> Nodes:
        """The `number` boxes with the lowest bounds."""
        bounds = self._store.bound[: self._count]
        lowest = np.arange(self._count)
        if number < self._count:
            lowest = np.argpartition(bounds, number - 1)[:number]
        popped = self._store.taken(lowest)
        self._close_gaps(lowest)
        return popped

    def push(self, born: Nodes) -> None:
        """Add boxes, in a store that doubles when it is full."""
        needed = self._count + len(born)
        if needed > len(self._store):
            room = self._store.taken(np.zeros(max(needed, len(self._store)), dtype=np.int64))
            self._store = joined([self._store, room])
        for field in fields(Nodes):
            getattr(self._store, field.name)[self._count : needed] = getattr(born, field.name)
        self._count = needed

    def _close_gaps(self, gone: np.ndarray) -> None:
        """Move the last boxes into the places of those that left."""
        self._count -= len(gone)
        tail = np.setdiff1d(np.arange(self._count, self._count + len(gone)), gone)
        holes = gone[gone < self._count]
        for field in fields(Nodes):
            array = getattr(self._store, field.name)
            array[holes] = array[tail]
