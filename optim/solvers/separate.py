"""Methods that design every receiver on its own, with powers split evenly beforehand."""

import abc
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from optim import mse, normal_form
from optim.combined.bound import stationary_multipliers
from optim.combined.certify import certified_design
from optim.combined.form import normalise
from optim.combined.mse import AnyProblem, objective
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.design import CombinedDesign, TransceiverDesign
from optim.infeasible import InfeasibleError
from optim.normal_form import NormalForm
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.base import AbstractTransceiverSolver, assemble


class AbstractSeparateSolver(AbstractTransceiverSolver):
    r"""A design for one receiver is all there is to write.

    In a combined problem every device has :math:`p^s = p^p = \min(\bar P, P^{\rm peak})` in all phases.
    """

    @abc.abstractmethod
    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """The design of a flat batch, in the units of the problem."""

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        """The design with its error and a bound in closed form."""
        form = normal_form.apply(problem)
        design = self.design(problem, form)
        errors = mse.aggregation_mse(problem.flattened(), design)
        return assemble(problem, form, design, [(Status.CLOSED_FORM, (float(error),)) for error in errors])

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        """Each receiver alone; silent where Pi has no weight."""
        form = normalise(problem)
        parts = [self._block_design(block, form.reference_power_w) for block in problem.blocks]
        design = problem.joined([part for part, _ in parts])
        status = _worst([status for _, statuses in parts for status in statuses])
        even = np.ones(form.budgets.targets.shape)
        multipliers = stationary_multipliers(form, form.project(design), even)[None]
        return certified_design(form, design, multipliers, status, (objective(problem, design),))

    def designed_stream(self, stream: AirCompProblem) -> tuple[TransceiverDesign, Status]:
        """The design of one receiver as a flat batch of one, and how that ended."""
        return self.design(stream, normal_form.apply(stream)), Status.CLOSED_FORM

    def _block_design(
        self, block: CombinedProblem, power_w: Float[np.ndarray, "K"]
    ) -> tuple[CombinedDesign, list[Status]]:
        streams = block.streams([power_w, *(power_w[task] for task in block.members)])
        pairs = zip(streams, block.stream_weights, strict=True)
        parts = [self._named_design(n, stream, float(weight)) for n, (stream, weight) in enumerate(pairs)]
        designs, statuses = [part for part, _ in parts], [status for _, status in parts]
        return CombinedDesign(designs[0], tuple(designs[1:])), statuses

    def _named_design(
        self, index: int, stream: AirCompProblem, weight: float
    ) -> tuple[TransceiverDesign, Status]:
        try:
            return self._stream_design(stream, weight)
        except InfeasibleError as refusal:
            name = (
                f"edge server {index - 1}, devices by their place in its members" if index else "base station"
            )
            raise InfeasibleError(f"{name}: {refusal}") from refusal

    def _stream_design(self, stream: AirCompProblem, weight: float) -> tuple[TransceiverDesign, Status]:
        if weight == 0 or stream.num_devices == 0:
            silence = np.zeros(stream.num_devices, dtype=np.complex128)
            nobody = np.zeros(stream.num_antennas, dtype=np.complex128)
            return TransceiverDesign(silence, nobody), Status.CLOSED_FORM
        flat, status = self.designed_stream(stream)
        return TransceiverDesign(flat.transmit_scalars[0], flat.receive_beamformer[0]), status


def _worst(statuses: Sequence[Status]) -> Status:
    """How the whole ended: at a limit if a part did, converged if a part was iterated."""
    if Status.ITERATION_LIMIT in statuses:
        return Status.ITERATION_LIMIT
    formulas = (Status.CLOSED_FORM, Status.SILENT)
    return Status.CLOSED_FORM if all(status in formulas for status in statuses) else Status.CONVERGED
