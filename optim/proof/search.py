"""Best-first branch and bound over phase sectors, for a whole batch of problems."""

import time
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Complex, Float

from optim.hinge import complex_point
from optim.options import SolverOptions
from optim.phase_step import phase_step, reduced_error
from optim.proof.nodes import CLOSED_WIDTH_RAD, Frontier, Nodes, children, joined
from optim.proof.sectors import LEVELS, SectorRelaxation
from optim.solution import Status
from optim.threshold import scaled_along

BATCH = 96
PER_PROBLEM = 8
WIDE_SHARE = 0.001
STAGED = 1
GROUP = (0, 2)


@dataclass(eq=False)
class Progress:
    point: np.ndarray
    error: float
    floor: float  # lowest bound of what was cut off
    frontier: Frontier
    history: list
    nodes: int = 0
    spent_s: float = 0.0
    status: Status | None = None

    @property
    def bound(self) -> float:
        return min(self.floor, self.frontier.bound)


class Search:
    def __init__(self, rows, targets, multipliers, points, options: SolverOptions) -> None:
        self.rows, self.targets, self.options = rows, targets, options
        self.relaxation = SectorRelaxation(rows, targets, multipliers)
        errors = reduced_error(rows, targets, points)
        self.progress = [
            Progress(points[b], float(errors[b]), np.inf, Frontier(self._root(b)), [float(errors[b])])
            for b in range(len(rows))
        ]

    def _root(self, index):
        base = self.relaxation.base[index, -1]
        lam = self.relaxation.multipliers[index, -1]
        w = self.targets[index]
        K, d = len(w), 2 * self.rows.shape[-1]
        fixed = int(np.argmax(w**2 * lam / (1 + lam)))
        width = np.full((1, K), 2 * np.pi)
        width[0, fixed] = 0
        score = w**2 * lam / (1 + lam) + 1e-6 * w
        score[fixed] = -1
        return Nodes(np.array([index]), np.zeros((1, K)), width, np.array([base]), np.array([2]), np.zeros((1, d)), np.array([int(np.argmax(score))]))

    def run(self):
        running = list(range(len(self.rows)))
        while True:
            running = [i for i in running if not self._finished(self.progress[i])]
            if not running:
                break
            # 
            for i0 in range(0, len(running), BATCH // PER_PROBLEM):
                self._step(running[i0 : i0 + BATCH // PER_PROBLEM])

    def _finished(self, p: Progress):
        if p.error <= p.bound * (1 + self.options.gap):
            p.status = Status.PROVED_OPTIMAL
        elif p.nodes >= self.options.node_limit:
            p.status = Status.NODE_LIMIT
        elif p.spent_s >= self.options.time_limit_s:
            p.status = Status.TIME_LIMIT
        return p.status is not None

    def _step(self, running):
        started = time.perf_counter()
        number = max(PER_PROBLEM, BATCH // len(running))
        born = children(joined([self.progress[i].frontier.pop(number) for i in running]))
        enough = np.array([self.progress[i].error for i in range(len(self.rows))]) / (1 + self.options.gap)
        born = self._bounded(born, enough)
        self._improve(born, running)
        for i in running:
            p = self.progress[i]
            own = born.problem == i
            p.nodes += int(own.sum())
            cut = own & (born.bound >= p.error / (1 + self.options.gap))
            p.floor = min(p.floor, float(born.bound[cut].min(initial=np.inf)))
            p.frontier.push(born.taken(own & ~cut))
        spent = (time.perf_counter() - started) / len(born)
        for i in running:
            self.progress[i].spent_s += spent * (born.problem == i).sum()

    def _bounded(self, born: Nodes, enough):
        stop = enough[born.problem]
        value, point = self.relaxation.bound(born.problem, born.level, born.centre_rad, born.width_rad, born.point, stop)
        level = born.level.copy()
        best = value.copy()
        num = len(self.relaxation.base[0])
        if STAGED == 0:
            groups = [[lev] for lev in self.order if lev < num]
        elif STAGED == 1:
            groups = [range(num)]
        else:
            groups = [[lev for lev in GROUP if lev < num], [lev for lev in range(num) if lev not in GROUP]]
        for g in groups:
            open_ = np.flatnonzero(best < stop)
            todo = np.repeat(open_, len(g)); levs = np.tile(np.array(g), len(open_))
            ok = born.level[todo] != levs
            todo, levs = todo[ok], levs[ok]
            if not len(todo):
                continue
            v, x = self.relaxation.bound(born.problem[todo], levs, born.centre_rad[todo], born.width_rad[todo], point[todo], stop[todo])
            o = np.argsort(v, kind="stable"); v, x, todo, levs = v[o], x[o], todo[o], levs[o]
            up = v > best[todo]
            t = todo[up]
            best[t], point[t], level[t] = v[up], x[up], levs[up]
        best = np.maximum(best, born.bound)
        branch = self._branching_device(born, point, enough)
        return Nodes(born.problem, born.centre_rad, born.width_rad, best, level, point, branch)

    order = (2, 3, 1, 4, 0)

    def _branching_device(self, born, point, enough):
        z = (self.rows[born.problem] @ complex_point(point)[..., None])[..., 0]
        closed = born.width_rad < CLOSED_WIDTH_RAD
        w = self.targets[born.problem]
        q = (np.exp(-1j * born.centre_rad) * z).real / np.where(closed, np.cos(born.width_rad / 2), 1)
        loss = np.maximum(w - np.abs(z), 0) ** 2 - np.where(closed, np.maximum(w - q, 0) ** 2, 0)
        score = loss + WIDE_SHARE * enough[born.problem][:, None] * born.width_rad / (2 * np.pi)
        score = np.where(born.width_rad > 0, score, -np.inf)
        return score.argmax(-1)

    def _improve(self, born, running):
        x = complex_point(born.point)
        x = scaled_along(self.rows[born.problem], self.targets[born.problem], x)
        f = reduced_error(self.rows[born.problem], self.targets[born.problem], x)
        order = np.lexsort((f, born.problem))
        first = order[np.unique(born.problem[order], return_index=True)[1]]
        prob = born.problem[first]
        pts = x[first]
        for _ in range(2):
            pts = phase_step(self.rows[prob], self.targets[prob], pts)
        err = reduced_error(self.rows[prob], self.targets[prob], pts)
        for i, e, y in zip(prob, err, pts):
            if e < self.progress[i].error:
                self.progress[i].error = float(e)
                self.progress[i].point = y
                self.progress[i].history.append(float(e))
