"""What every solver offers, and the way from a design to a certified solution."""

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim import mse
from optim.certificate import closed_form_multipliers, dual_value, stationary_multipliers
from optim.combined.mse import AnyProblem
from optim.combined.solution import CombinedSolution
from optim.design import TransceiverDesign
from optim.evaluation import evaluate_receiver
from optim.normal_form import NormalForm
from optim.problem import AirCompProblem
from optim.solution import PROVABLE, PROVED_GAP, History, Solution, Status


class AbstractTransceiverSolver(abc.ABC):
    """Turns a problem of either kind into a solution."""

    # Whether tasks may share one channel.
    takes_task_reuse: ClassVar[bool] = False
    # Whether `device_antennas` may be above 1.
    takes_device_antennas: ClassVar[bool] = False

    @abc.abstractmethod
    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        """A design for one receiver, or for a batch of independent ones."""

    @abc.abstractmethod
    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        """A design for the base station and all edge servers, with one energy budget per device."""


def check_receiver_scope(solver: AbstractTransceiverSolver, problem: AirCompProblem, name: str) -> None:
    """Raise `ValueError` if a method cannot design for one such receiver."""
    if problem.device_antennas > 1 and not solver.takes_device_antennas:
        raise ValueError(
            f"device_antennas = {problem.device_antennas}: {name!r} designs for one antenna "
            "per device; use method 'auto' or 'sqp'"
        )


def check_combined_scope(solver: AbstractTransceiverSolver, problem: AnyProblem, name: str) -> None:
    """Raise `ValueError` if a method cannot design such a combined problem."""
    if problem.reuse and not solver.takes_task_reuse:
        raise ValueError(
            f"task_access = 'reuse': {name!r} would ignore the interference between "
            "tasks; use method 'auto' or 'sqp'"
        )


def assemble(
    problem: AirCompProblem,
    form: NormalForm,
    design: TransceiverDesign,
    endings: Sequence[tuple[Status, History]],
    multipliers: Float[np.ndarray, "C B K"] | None = None,
) -> Solution:
    """The solution of a flat design, in the problem's batch shape, with the best certificate at hand.

    `multipliers` (without any, the closed-form sets) join the ones that the beamformer itself implies. All
    of them are of a known channel: imperfect knowledge only adds to the error, so their bound holds for it,
    too, and the history, which does not know of it either, is replaced by where it led.
    """
    implied = stationary_multipliers(form, form.project(design.receive_beamformer))[None]
    others = closed_form_multipliers(form) if multipliers is None else multipliers
    bound = dual_value(form, np.concatenate([implied, others])).max(axis=0)
    if problem.error_covariance is not None:
        flat = problem.flattened()
        parts = evaluate_receiver(flat, design)
        reached = flat.misalignment_weight * parts.misalignment + parts.csi_term + parts.noise_term
        endings = [(s, (float(r),)) for (s, _), r in zip(endings, reached, strict=True)]
    return packed(problem, design, endings, bound, form.silent)


def packed(
    problem: AirCompProblem,
    design: TransceiverDesign,
    endings: Sequence[tuple[Status, History]],
    bound: Float[np.ndarray, "B"],
    silent: Bool[np.ndarray, "B"],
) -> Solution:
    """The solution of a flat design with a certified bound, in the problem's batch shape."""
    batch = problem.batch_shape
    design = TransceiverDesign(
        design.transmit_scalars.reshape(*batch, *design.transmit_scalars.shape[1:]),
        design.receive_beamformer.reshape(*batch, -1),
        problem.device_antennas,
    )
    solution = Solution(
        design=design,
        misalignment=shaped(mse.misalignment(problem, design), batch),
        csi_term=shaped(mse.csi_error(problem, design), batch),
        noise_term=shaped(mse.noise(problem, design), batch),
        misalignment_weight=shaped(problem.misalignment_weight, batch),
        power_budget_w=problem.power_budget_w,
        lower_bound=shaped(bound, batch),
        status=tuple(status for status, _ in endings) if batch else endings[0][0],
        history=tuple(history for _, history in endings) if batch else endings[0][1],
    )
    return _judged(silent, solution)


def _judged(silences: Bool[np.ndarray, "B"], solution: Solution) -> Solution:
    """The solution with what the certificate proves and what silence leaves said in its status."""
    statuses = solution.status if isinstance(solution.status, tuple) else (solution.status,)
    proved = np.ravel(solution.gap) <= PROVED_GAP
    judged = [
        Status.SILENT if silent else (Status.PROVED_OPTIMAL if sure and status in PROVABLE else status)
        for status, sure, silent in zip(statuses, proved.tolist(), silences.tolist(), strict=True)
    ]
    return replace(solution, status=tuple(judged) if isinstance(solution.status, tuple) else judged[0])


def assemble_beams(
    problem: AirCompProblem,
    form: NormalForm,
    point: Complex[np.ndarray, "B n"],
    endings: Sequence[tuple[Status, History]],
    multipliers: Float[np.ndarray, "C B K"] | None = None,
) -> Solution:
    """As :func:`assemble`, from normal-form beamformers and the best transmit scalars behind them."""
    beamformer = form.invert(point)
    scalars = mse.best_transmit_scalars(problem.flattened(), beamformer)
    design = TransceiverDesign(scalars, beamformer, problem.device_antennas)
    return assemble(problem, form, design, endings, multipliers)


def shaped(values: Float[np.ndarray, "*any"], batch: tuple[int, ...]) -> Float[np.ndarray, "*batch"] | float:
    """Values of a flat batch in the batch shape of the problem; a float for a single one."""
    return values.reshape(batch) if batch else float(values.reshape(()))
