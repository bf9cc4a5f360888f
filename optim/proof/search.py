"""Branch and bound on phase sectors [Lu17]: the lowest bounds first, many boxes of many problems at once."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex, Float, Int

from optim import sqp
from optim.hinge import complex_point
from optim.options import SolverOptions
from optim.phase_step import arriving, phase_step, reduced_error
from optim.proof.frontier import Frontier
from optim.proof.nodes import PARTS_OF_CIRCLE, Nodes, children, joined, root_nodes
from optim.proof.sectors import LEVELS, SectorRelaxation
from optim.solution import Status
from optim.threshold import scaled_along

# What one step takes from the frontiers: (devices x dimensions) of all boxes, and the fewest boxes a problem.
STEP_ENTRIES = 8_000
FEWEST_BOXES = 8
POLISHING_STEPS = 2
# What a full circle counts when a sector is chosen, relative to the error: for where nothing else decides.
WIDTH_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class Claim:
    """Problems in normal form whose optimum is to be proved, from a design and multipliers of each.

    `lost` is what devices that cannot be heard add to the error: the relative gap counts it.
    """

    rows: Complex[np.ndarray, "B K n"]
    targets: Float[np.ndarray, "B K"]
    lost: Float[np.ndarray, "B"]
    multipliers: Float[np.ndarray, "B K"]
    points: Complex[np.ndarray, "B n"]


@dataclass(eq=False)
class Proof:
    """How far the proof of one problem has come: the best point and a bound below every point."""

    point: Complex[np.ndarray, "n"]
    errors: list[float]  # falling; the last is the point's
    frontier: Frontier
    cut_off: float = np.inf  # the lowest bound among the boxes that were good enough
    nodes: int = 0
    spent_s: float = 0.0
    status: Status | None = None  # while it goes on

    @property
    def bound(self) -> float:
        """What no point can beat."""
        return min(self.cut_off, self.frontier.bound)


def prove(claim: Claim, options: SolverOptions) -> list[Proof]:
    """Search until every problem is proved to the asked gap or has used up its nodes or its time.

    The problems share each step; a problem's time is its share of the boxes.
    """
    search = _Search(claim, options)
    running = search.unfinished(range(len(claim.rows)))
    while running:
        for group in search.groups(running):
            search.step(group)
        running = search.unfinished(running)
    return search.proofs


class _Search:
    """The proofs of a claim and the relaxation they share."""

    def __init__(self, claim: Claim, options: SolverOptions) -> None:
        self.claim, self.options = claim, options
        self.relaxation = SectorRelaxation(claim.rows, claim.targets, claim.multipliers)
        dimension = 2 * claim.rows.shape[-1]
        shares = self.relaxation.root_share
        roots = replace(root_nodes(shares, dimension, len(LEVELS) - 1), bound=shares.sum(axis=-1))
        errors = reduced_error(claim.rows, claim.targets, claim.points)
        self.proofs = [
            Proof(point, [float(error)], Frontier(roots.taken(np.array([index]))))
            for index, (point, error) in enumerate(zip(claim.points, errors, strict=True))
        ]
        self._most_boxes = max(1, STEP_ENTRIES // (dimension * shares.shape[-1]))

    def enough(self) -> Float[np.ndarray, "B"]:
        """The bound at which each problem's gap is closed."""
        errors = np.array([proof.errors[-1] for proof in self.proofs])
        return (errors + self.claim.lost) / (1 + self.options.gap) - self.claim.lost

    def unfinished(self, running: Iterable[int]) -> list[int]:
        """The problems that go on; the others get their status."""
        enough = self.enough().tolist()
        verdicts = {index: self._verdict(self.proofs[index], enough[index]) for index in running}
        for index, verdict in verdicts.items():
            self.proofs[index].status = verdict
        return [index for index, verdict in verdicts.items() if verdict is None]

    def _verdict(self, proof: Proof, enough: float) -> Status | None:
        if proof.bound >= enough:
            return Status.PROVED_OPTIMAL
        if proof.nodes >= self.options.node_limit:
            return Status.NODE_LIMIT
        return Status.TIME_LIMIT if proof.spent_s >= self.options.time_limit_s else None

    def groups(self, running: list[int]) -> list[list[int]]:
        """Problems that fit into one step."""
        size = max(1, self._most_boxes // FEWEST_BOXES)
        return [running[start : start + size] for start in range(0, len(running), size)]

    def step(self, group: list[int]) -> None:
        """Cut the best boxes of each problem, bound the parts, look for better points in them."""
        started_s = time.perf_counter()
        born = children(joined([self._popped(index, self._most_boxes // len(group)) for index in group]))
        enough = self.enough()
        born = self.relaxation.tightest(born, enough[born.problem])
        born = replace(born, branch=self._branching_device(born, enough))
        self._improve(born)
        self._sort(born, group)
        per_box_s = (time.perf_counter() - started_s) / len(born)
        for index in group:
            self.proofs[index].spent_s += per_box_s * np.count_nonzero(born.problem == index)

    def _popped(self, index: int, share: int) -> Nodes:
        proof = self.proofs[index]
        allowed = (self.options.node_limit - proof.nodes) // PARTS_OF_CIRCLE
        return proof.frontier.pop(max(1, min(share, allowed)))

    def _sort(self, born: Nodes, group: list[int]) -> None:
        """Keep the boxes that may still hold the optimum, note the bounds of the others."""
        enough = self.enough()
        for index in group:
            proof, own = self.proofs[index], born.taken(born.problem == index)
            promising = own.bound < enough[index]
            proof.nodes += len(own)
            proof.cut_off = min(proof.cut_off, float(own.bound[~promising].min(initial=np.inf)))
            proof.frontier.push(own.taken(promising))

    def _branching_device(self, nodes: Nodes, enough: Float[np.ndarray, "B"]) -> Int[np.ndarray, "M"]:
        """The device whose sector hides most error at the minimiser: ``(w - |z|)_+^2 - (w - q)_+^2``."""
        targets = self.claim.targets[nodes.problem]
        received = arriving(self.claim.rows[nodes.problem], complex_point(nodes.point))
        along = (np.exp(-1j * nodes.centre_rad) * received).real
        half_rad = np.where(nodes.closed, nodes.width_rad / 2, 0.0)
        most = np.where(nodes.closed, along / np.cos(half_rad), np.inf)
        hidden = np.maximum(targets - np.abs(received), 0.0) ** 2 - np.maximum(targets - most, 0.0) ** 2
        scale = WIDTH_SHARE * enough[nodes.problem, None]
        score = hidden + scale * nodes.width_rad / (2 * np.pi)
        return np.where((nodes.width_rad > 0) & (targets > 0), score, -np.inf).argmax(axis=-1)

    def _improve(self, born: Nodes) -> None:
        """Descend from the best minimiser of each problem's boxes."""
        rows, targets = self.claim.rows[born.problem], self.claim.targets[born.problem]
        points = scaled_along(rows, targets, complex_point(born.point))
        order = np.lexsort((reduced_error(rows, targets, points), born.problem))
        best = order[np.unique(born.problem[order], return_index=True)[1]]
        points, rows, targets = points[best], rows[best], targets[best]
        for _ in range(POLISHING_STEPS):
            points = phase_step(rows, targets, points)
        known = np.array([self.proofs[index].errors[-1] for index in born.problem[best]])
        better = reduced_error(rows, targets, points) < known
        if better.any():
            descent = sqp.descend(rows[better], targets[better], points[better], self.options)
            found = zip(born.problem[best][better], descent.points, descent.errors.tolist(), strict=True)
            for index, point, error in found:
                self.proofs[index].point = point
                self.proofs[index].errors.append(error)
