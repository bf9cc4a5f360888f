"""Boxes of phases: one sector per device, and how a box is cut."""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

# A sector this wide or wider is no cone: the phase in it is free.
CLOSED_WIDTH_RAD = np.pi * (1 - 1e-9)
# With three parts of a circle every part is a cone.
PARTS_OF_CIRCLE = 3
PARTS_OF_CONE = 2


@dataclass(frozen=True, eq=False)
class Nodes:
    """Boxes side by side: device k of a box arrives within ``centre_k +- width_k / 2``.

    `bound` is below the error of every point in the box and `point`, in real coordinates, the minimiser of
    the relaxation that says so; `level` says which multipliers that used, `branch` which sector is cut next.
    """

    problem: Int[np.ndarray, "M"]
    centre_rad: Float[np.ndarray, "M K"]
    width_rad: Float[np.ndarray, "M K"]
    level: Int[np.ndarray, "M"]
    bound: Float[np.ndarray, "M"]
    point: Float[np.ndarray, "M d"]
    branch: Int[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.problem)

    @property
    def closed(self) -> Bool[np.ndarray, "M K"]:
        """Sectors that are cones."""
        return np.asarray(self.width_rad < CLOSED_WIDTH_RAD)

    def taken(self, chosen: Bool[np.ndarray, "M"] | Int[np.ndarray, "_"]) -> "Nodes":
        """The boxes of a mask or of positions, as copies."""
        return Nodes(*(getattr(self, field.name)[chosen] for field in fields(self)))


def joined(groups: list[Nodes]) -> Nodes:
    """All boxes in one row."""
    return Nodes(*(np.concatenate([getattr(g, field.name) for g in groups]) for field in fields(Nodes)))


def root_nodes(shares: Float[np.ndarray, "B K"], dimension: int, level: int) -> Nodes:
    """One box per problem, in which only the phase of the device with the largest share is fixed.

    A common phase changes no error, so one phase is free to choose; the device with the second share is cut
    first.
    """
    problem = np.arange(len(shares))
    order = np.argsort(-shares, axis=-1, kind="stable")
    width_rad = np.full(shares.shape, 2 * np.pi)
    width_rad[problem, order[:, 0]] = 0.0
    return Nodes(
        problem=problem,
        centre_rad=np.zeros_like(width_rad),
        width_rad=width_rad,
        level=np.full(len(shares), level),
        bound=np.zeros(len(shares)),
        point=np.zeros((len(shares), dimension)),
        branch=order[:, min(1, shares.shape[-1] - 1)],
    )


def children(parents: Nodes) -> Nodes:
    """Every box cut across its branching device: a circle in three, a cone in two.

    A child keeps the bound and the point of its parent until it has its own.
    """
    every = np.arange(len(parents))
    width_rad = parents.width_rad[every, parents.branch]
    parts = np.where(width_rad < CLOSED_WIDTH_RAD, PARTS_OF_CONE, PARTS_OF_CIRCLE)
    parent = np.repeat(every, parts)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(parts) - parts, parts)
    born, cut = parents.taken(parent), (np.arange(len(parent)), parents.branch[parent])
    narrow_rad = (width_rad / parts)[parent]
    centre_rad, widths_rad = born.centre_rad.copy(), born.width_rad.copy()
    centre_rad[cut] += (rank - (parts[parent] - 1) / 2) * narrow_rad
    widths_rad[cut] = narrow_rad
    return replace(born, centre_rad=centre_rad, width_rad=widths_rad)
