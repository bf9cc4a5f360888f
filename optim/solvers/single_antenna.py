"""The exact solver for one receive antenna."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Float

from optim import mse, scalar_rule
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.design import TransceiverDesign
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, shaped
from optim.solvers.robust import RobustDesign
from optim.solvers.sequential_quadratic import SequentialQuadratic


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
        found = scalar_rule.design(problem)
        batch = problem.batch_shape
        design = TransceiverDesign(
            found.transmit_scalars.reshape(*batch, problem.num_devices),
            found.receive_scalar.astype(np.complex128).reshape(*batch, 1),
        )
        csi_term = mse.csi_error(problem, design)
        reached = (
            np.ravel(problem.misalignment_weight) * found.misalignment + found.noise + np.ravel(csi_term)
        )
        statuses = _statuses(found.receive_scalar)
        histories = tuple(zip(reached.tolist(), strict=True))
        return Solution(
            design=design,
            misalignment=shaped(found.misalignment, batch),
            csi_term=shaped(csi_term, batch),
            noise_term=shaped(found.noise, batch),
            misalignment_weight=shaped(problem.misalignment_weight, batch),
            power_budget_w=problem.power_budget_w,
            lower_bound=shaped(found.bound, batch),
            status=statuses if batch else statuses[0],
            history=histories if batch else histories[0],
        )

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


def _statuses(receive_scalar: Float[np.ndarray, "B"]) -> tuple[Status, ...]:
    silent = receive_scalar == 0
    if not silent.any():
        return (Status.CLOSED_FORM,) * len(silent)
    return tuple(Status.SILENT if quiet else Status.CLOSED_FORM for quiet in silent.tolist())
