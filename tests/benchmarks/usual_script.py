"""The script that most would write with cvxpy: each problem built anew, one after another, no warm starts.

It is a careful version of it: numbers are normalised to order one, without which its solvers fail, and all
devices stand in one expression, which cvxpy compiles faster than a loop over constraints.
"""

from typing import NamedTuple

import cvxpy as cp
import numpy as np

from optim import AirCompProblem

RANDOMISATIONS = 100
SCA_STEPS = 10


class Outcome(NamedTuple):
    """A value or a beamformer, and the seconds that the convex solver itself says it took."""

    result: float | np.ndarray
    solver_s: float


def normalised(problem: AirCompProblem) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``sqrt(P_k) h_k^H / sigma`` and targets of norm one."""
    rows = np.sqrt(problem.power_budget_w)[:, None] * problem.channel.conj() / np.sqrt(problem.noise_power_w)
    return rows, problem.target_gains / np.linalg.norm(problem.target_gains)


def error(rows: np.ndarray, targets: np.ndarray, beam: np.ndarray) -> float:
    """Mean squared error behind a beamformer, with the best transmit scalars, relative to silence."""
    shortfall = np.maximum(targets - np.abs(rows @ beam), 0)
    return float((np.abs(beam) ** 2).sum() + (shortfall**2).sum())


def joint_relaxation(rows: np.ndarray, targets: np.ndarray) -> Outcome:
    """The bound of beams and powers lifted together: ``min tr X + sum (w - t)^2, t^2 <= a X a^H``."""
    count, size = rows.shape
    unit = np.sqrt(np.median((np.abs(rows) ** 2).sum(axis=1)))
    lift = cp.Variable((size, size), hermitian=True)
    amplitude = cp.Variable(count)
    scaled = rows / unit
    gains = cp.real(cp.sum(cp.multiply(scaled @ lift, scaled.conj()), axis=1))
    objective = cp.real(cp.trace(lift)) / unit**2 + cp.sum_squares(targets - amplitude)
    program = cp.Problem(cp.Minimize(objective), [lift >> 0, amplitude <= cp.sqrt(gains)])
    value = program.solve(solver=cp.CLARABEL)
    return Outcome(float(value), program.solver_stats.solve_time)


def uniform_forcing(rows: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Outcome:
    """A beamformer that every device can invert: relaxation, randomisation, successive approximation."""
    scaled = rows / targets[:, None]
    unit = np.linalg.norm(scaled, axis=1).min()
    scaled = scaled / unit
    lift, spent_s = _relaxed(scaled)
    beam = _best_random(scaled, lift, rng)
    for _ in range(SCA_STEPS):
        beam, step_s = _approximated(scaled, beam)
        spent_s += step_s
    beam = beam / np.abs(scaled @ beam).min()
    return Outcome(beam / unit, spent_s)


def _relaxed(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """``min tr M`` subject to ``a_k M a_k^H >= 1``."""
    lift = cp.Variable((rows.shape[1], rows.shape[1]), hermitian=True)
    gains = cp.real(cp.sum(cp.multiply(rows @ lift, rows.conj()), axis=1))
    program = cp.Problem(cp.Minimize(cp.real(cp.trace(lift))), [lift >> 0, gains >= 1])
    program.solve(solver=cp.CLARABEL)
    return lift.value, program.solver_stats.solve_time


def _best_random(rows: np.ndarray, lift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The shortest of the principal eigenvector and Gaussian samples, each scaled until all are reached."""
    spread, modes = np.linalg.eigh(lift)
    noise = rng.standard_normal((2, len(spread), RANDOMISATIONS))
    samples = modes @ (np.sqrt(np.maximum(spread, 0))[:, None] * (noise[0] + 1j * noise[1]))
    beams = np.concatenate([modes[:, -1:], samples], axis=1)
    beams = beams / np.abs(rows @ beams).min(axis=0)
    return beams[:, np.argmin(np.linalg.norm(beams, axis=0))]


def _approximated(rows: np.ndarray, beam: np.ndarray) -> tuple[np.ndarray, float]:
    """One step: ``min |x|^2`` subject to the tangents of ``|a_k x|^2 >= 1``."""
    received = rows @ beam
    moved = cp.Variable(rows.shape[1], complex=True)
    tangents = 2 * cp.real((received.conj()[:, None] * rows) @ moved) - np.abs(received) ** 2
    program = cp.Problem(cp.Minimize(cp.sum_squares(moved)), [tangents >= 1])
    program.solve(solver=cp.CLARABEL)
    return moved.value, program.solver_stats.solve_time
