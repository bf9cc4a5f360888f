"""The exact solver for one receive antenna."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from optim import normal_form
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.options import SolverOptions
from optim.phase_step import reduced_error
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, assemble_beams
from optim.solvers.robust import RobustDesign
from optim.solvers.sequential_quadratic import SequentialQuadratic
from optim.threshold import scaled_along


@final
@dataclass(frozen=True)
class ThresholdRule(AbstractTransceiverSolver):
    """Weak devices at full power, strong ones invert their channel: the global optimum, at once [Cao20]."""

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        if problem.num_antennas > 1:
            raise ValueError(
                f"channel has {problem.num_antennas} antennas, but method 'threshold' is exact for one only: "
                "use 'auto' or 'sqp'"
            )
        form = normal_form.apply(problem)
        points = scaled_along(form.rows, form.targets, np.ones_like(form.rows[:, 0]))
        errors = form.objective(reduced_error(form.rows, form.targets, points))
        return assemble_beams(problem, form, points, [(Status.CLOSED_FORM, (float(e),)) for e in errors])

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        raise ValueError(
            "method 'threshold' solves one receiver with fixed powers, but a CombinedProblem couples "
            f"{len(problem.stream_weights)} receivers by their devices' energy: use 'auto' or 'phase-mm'"
        )


@final
@dataclass(frozen=True)
class Automatic(AbstractTransceiverSolver):
    """Robust if the channel is an estimate, exact with one antenna, else sequential quadratic programming."""

    takes_task_reuse = True
    takes_device_antennas = True
    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        if problem.error_covariance is not None:
            return RobustDesign(self.options).solve_receiver(problem)
        if problem.num_antennas == problem.device_antennas == 1:
            return ThresholdRule().solve_receiver(problem)
        return SequentialQuadratic(self.options).solve_receiver(problem)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        return SequentialQuadratic(self.options).solve_combined(problem)
