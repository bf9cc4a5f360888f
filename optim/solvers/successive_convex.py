r"""Successive convex approximation by cvxpy: one program per problem, new numbers in every step.

The squared gain is replaced by its tangent at the present point, :math:`|a_k x|^2 \ge 2 \Re\{\bar z_k a_k
x\} - |z_k|^2`, which leaves a convex problem in beams and powers together. Complex parameters would make
cvxpy rebuild the program each time, so beams are real vectors here.
"""

from dataclasses import dataclass, field
from typing import Any, final

import cvxpy as cp
import numpy as np
from jaxtyping import Complex

from optim import hinge, normal_form
from optim.combined.certify import certified
from optim.combined.form import Beams, CombinedForm, normalise
from optim.combined.joint import equal_split, screened_beams
from optim.combined.mse import AnyProblem
from optim.combined.power_split import available_power
from optim.combined.solution import CombinedSolution
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import arriving, reduced_error
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.solvers import conic
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


@dataclass(frozen=True, eq=False)
class Tangent:
    """The parametrised part of one stream: slopes and offsets of the linearised gains."""

    stream: ConicStream
    beam: Any
    slopes: Any
    offsets: Any

    def touch(self, point: Complex[np.ndarray, "n"]) -> None:
        """Put the tangent at a normal-form point."""
        scaled = point / self.stream.beam_unit
        received = arriving(self.stream.rows, scaled)
        self.slopes.value = 2 * hinge.real_rows(received.conj()[:, None] * self.stream.rows)
        self.offsets.value = np.abs(received) ** 2

    def point(self) -> Complex[np.ndarray, "n"]:
        """The normal-form point the program ended at."""
        return hinge.complex_point(np.asarray(self.beam.value)) * self.stream.beam_unit


def _program(
    streams: list[ConicStream], power: Any, constraints: list[cp.Constraint]
) -> tuple[Any, list[Tangent]]:
    """The convex program of one step, to be re-solved with new tangents."""
    cost, tangents = [], []
    for stream in streams:
        num_devices, size = stream.rows.shape
        beam = cp.Variable(2 * size)
        slopes, offsets = cp.Parameter((num_devices, 2 * size)), cp.Parameter(num_devices, nonneg=True)
        available = power[stream.phase][stream.devices]
        lost, cones = conic.lost_signal(stream.lost_weight, slopes @ beam - offsets, available)
        cost.append(cp.sum_squares(beam) + lost)
        constraints = [*constraints, *cones]
        tangents.append(Tangent(stream, beam, slopes, offsets))
    return cp.Problem(cp.Minimize(sum(cost)), constraints), tangents


def _descend_receiver(
    form: NormalForm, index: int, point: Complex[np.ndarray, "n"], options: SolverOptions
) -> tuple[Complex[np.ndarray, "n"], Status, History]:
    rows, targets = form.rows[index], form.targets[index]
    history = [float(reduced_error(rows, targets, point))]
    stream = conic.receiver_stream(rows, targets, history[0])
    if stream is None:
        return point, Status.SILENT, tuple(history)
    program, (tangent,) = _program([stream], np.ones((1, len(rows))), [])
    status = Status.ITERATION_LIMIT
    for _ in range(options.max_iterations):
        tangent.touch(point)
        verdict = conic.solve_conic(program, options.conic_solver)
        if verdict == conic.FAILED:
            status = Status.INFEASIBLE
            break
        stepped = tangent.point()
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
    power, limits = conic.power_variables(form.budgets)
    streams = conic.combined_streams(form, error)
    program, tangents = _program(streams, power, limits)
    for _ in range(options.max_iterations if streams else 0):
        for tangent in tangents:
            tangent.touch(beams[tangent.stream.phase][tangent.stream.receiver])
        verdict = conic.solve_conic(program, options.conic_solver)
        if verdict == conic.FAILED:
            status = Status.INFEASIBLE
            break
        stepped = _gathered(beams, tangents)
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


def _gathered(beams: Beams, tangents: list[Tangent]) -> Beams:
    """The beams with every stream of the program replaced by its solution."""
    gathered = tuple(points.copy() for points in beams)
    for tangent in tangents:
        gathered[tangent.stream.phase][tangent.stream.receiver] = tangent.point()
    return gathered
