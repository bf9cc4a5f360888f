"""Successive convex approximation by cvxpy: one program per shape, new numbers in every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import cvxpy as cp
import numpy as np
from jaxtyping import Complex

from optim import normal_form
from optim.combined.certify import certified
from optim.combined.form import Beams, CombinedForm, normalise
from optim.combined.joint import equal_split, screened_beams
from optim.combined.mse import AnyProblem
from optim.combined.power_split import available_power
from optim.combined.solution import CombinedSolution
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import reduced_error
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.solvers import conic, tangents
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.conic import ConicStream
from optim.solvers.descent import rescaled
from optim.starts import screened_starts

# Below this relative fall a convex solver's own error decides.
SOLVER_ACCURACY = 1e-6


@final
@dataclass(frozen=True)
class SuccessiveConvexApproximation(AbstractTransceiverSolver):
    """Monotone descent from the best screened start, one convex program per step."""

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        form = normal_form.apply(problem)
        starts = screened_starts(form.rows, form.targets, self.options.starts, self.options.generator())[0]
        runs = [_descend_receiver(form, index, starts[index], self.options) for index in range(len(starts))]
        points = np.stack([point for point, _, _ in runs])
        endings = rescaled([(status, history) for _, status, history in runs], form)
        return assemble_beams(problem, form, points, endings)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        form = normalise(problem)
        starts = screened_beams(form, self.options)
        return _descend_combined(form, tuple(points[0] for points in starts), self.options)


def _descend_receiver(
    form: NormalForm, index: int, point: Complex[np.ndarray, "n"], options: SolverOptions
) -> tuple[Complex[np.ndarray, "n"], Status, History]:
    rows, targets = form.rows[index], form.targets[index]
    history = [float(reduced_error(rows, targets, point))]
    stream = conic.receiver_stream(rows, targets, history[0])
    if stream is None:
        return point, Status.SILENT, tuple(history)
    program = tangents.receiver_program(stream)
    status = Status.ITERATION_LIMIT
    for _ in range(options.max_iterations):
        program.touch([point])
        verdict = program.solve(options.conic_solver)
        if verdict == conic.FAILED:
            status = Status.INFEASIBLE
            break
        (stepped,) = program.points()
        error = float(reduced_error(rows, targets, stepped))
        fall = history[-1] - error
        if fall > 0:
            point = stepped
            history.append(error)
        if fall <= max(options.tolerance, SOLVER_ACCURACY) * history[-1]:
            status = _ended(verdict, fall)
            break
    return point, status, tuple(history)


def _descend_combined(form: CombinedForm, beams: Beams, options: SolverOptions) -> CombinedSolution:
    available = equal_split(form, 1)[0]
    error = float(form.error(beams, form.strengths(beams), available))
    history, status = [error * form.scale], Status.ITERATION_LIMIT
    streams = conic.combined_streams(form, error)
    if not streams:
        return certified(form, beams, available, status, tuple(history))
    program = tangents.combined_program(streams, form.budgets)
    for _ in range(options.max_iterations):
        program.touch([beams[stream.phase][stream.receiver] for stream in streams])
        verdict = program.solve(options.conic_solver)
        if verdict == conic.FAILED:
            status = Status.INFEASIBLE
            break
        stepped = _gathered(beams, streams, program.points())
        strengths = form.strengths(stepped)
        split = available_power(form.budgets, strengths)
        fall = error - float(form.error(stepped, strengths, split))
        if fall > 0:
            beams, available, error = stepped, split, error - fall
            history.append(error * form.scale)
        if fall <= max(options.tolerance, SOLVER_ACCURACY) * error:
            status = _ended(verdict, fall)
            break
    return certified(form, beams, available, status, tuple(history))


def _ended(verdict: str, fall: float) -> Status:
    """A step that does not lead down ends the descent: at an optimum only if the step was accurate."""
    if verdict == cp.OPTIMAL_INACCURATE and fall > 0:
        return Status.CONVERGED
    return conic.STATUSES.get(verdict, Status.CONVERGED)


def _gathered(
    beams: Beams, streams: Sequence[ConicStream], points: Sequence[Complex[np.ndarray, "_"]]
) -> Beams:
    """The beams with every stream of the program replaced by its solution."""
    gathered = tuple(beam.copy() for beam in beams)
    for stream, point in zip(streams, points, strict=True):
        gathered[stream.phase][stream.receiver] = point
    return gathered
