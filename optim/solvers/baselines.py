"""What one would do without an optimiser: full power, or channel inversion, along a fixed direction."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Complex, Float

from optim import mse, normal_form
from optim.combined.bound import stationary_multipliers
from optim.combined.certify import certified_design
from optim.combined.form import normalise
from optim.combined.mse import AnyProblem, objective
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.design import CombinedDesign, TransceiverDesign
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import aligned_rows, arriving, back_rotations
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.alternating import mmse_point
from optim.solvers.base import AbstractTransceiverSolver, assemble
from optim.starts import repeated, starting_points


@final
@dataclass(frozen=True)
class FullPower(AbstractTransceiverSolver):
    """Everybody sends at full power; the receiver is the MMSE one for phases aligned to one direction.

    Phases are then aligned to that receiver. The direction is the best of the starting points. A combined
    budget is split evenly over both phases.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        return _assembled(problem, self._design(problem, normal_form.apply(problem)))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        return _split_evenly(problem, self._design)

    def _design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        directions = _directions(form, self.options)
        rows, targets = repeated(form.rows, len(directions)), repeated(form.targets, len(directions))
        wanted = targets > 0
        sent = aligned_rows(rows, directions) * wanted[..., None]
        points = mmse_point(sent, targets)
        error = np.abs(arriving(sent, points) - targets) ** 2
        best = np.argmin(error.sum(axis=-1) + (np.abs(points) ** 2).sum(axis=-1), axis=0)
        every = np.arange(len(best))
        flat = problem.flattened()
        beamformer = form.invert(points[best, every])
        phases = back_rotations(mse.beam_gains(flat, beamformer)[..., 0])
        return TransceiverDesign(np.sqrt(flat.power_budget_w) * phases * (flat.target_gains > 0), beamformer)


@final
@dataclass(frozen=True)
class ChannelInversion(AbstractTransceiverSolver):
    r"""Every device arrives exactly as wanted; the weakest sets the scale.

    .. math:: m = f / \sqrt\eta, \quad \eta = \min_k P_k |f^H h_k|^2 / \omega_k^2, \quad
              \mathrm{MSE} = \sigma^2 / \eta

    The direction f is the best of the starting points. Devices that cannot be heard at all are left out. A
    combined budget is split evenly over both phases.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        return _assembled(problem, self._design(problem, normal_form.apply(problem)))

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        return _split_evenly(problem, self._design)

    def _design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        directions = _directions(form, self.options)
        norms = np.linalg.norm(directions, axis=-1, keepdims=True)
        units = directions / np.where(norms > 0, norms, 1.0)
        size = np.abs(arriving(form.rows, units))
        needed = (form.targets > 0) & (size > 0)
        scales = np.where(needed, form.targets / np.where(needed, size, 1.0), 0.0).max(axis=-1)
        missed = (np.where(size > 0, 0.0, form.targets) ** 2).sum(axis=-1)
        best = np.argmin(scales**2 + missed, axis=0)
        every = np.arange(len(best))
        beamformer = form.invert(units[best, every] * scales[best, every][:, None])
        return TransceiverDesign(mse.best_transmit_scalars(problem.flattened(), beamformer), beamformer)


Design = Callable[[AirCompProblem, NormalForm], TransceiverDesign]


def _directions(form: NormalForm, options: SolverOptions) -> Complex[np.ndarray, "S B n"]:
    return starting_points(form.rows, form.targets, options.starts, options.generator())


def _assembled(problem: AirCompProblem, design: TransceiverDesign) -> Solution:
    errors = mse.aggregation_mse(problem.flattened(), design)
    endings = [(Status.CLOSED_FORM, (float(error),)) for error in errors]
    return assemble(problem, normal_form.apply(problem), design, endings)


def _split_evenly(problem: AnyProblem, design_of: Design) -> CombinedSolution:
    """Each receiver alone, every device with the same power in all phases; silent where Pi has no weight."""
    form = normalise(problem)
    design = problem.joined([_block_design(b, form.reference_power_w, design_of) for b in problem.blocks])
    even = np.ones(form.budgets.targets.shape)
    multipliers = stationary_multipliers(form, form.project(design), even)[None]
    return certified_design(form, design, multipliers, Status.CLOSED_FORM, (objective(problem, design),))


def _block_design(
    block: CombinedProblem, power_w: Float[np.ndarray, "K"], design_of: Design
) -> CombinedDesign:
    streams = block.streams([power_w, *(power_w[task] for task in block.members)])
    pairs = zip(streams, block.stream_weights, strict=True)
    parts = [_receiver_part(stream, float(weight), design_of) for stream, weight in pairs]
    return CombinedDesign(parts[0], tuple(parts[1:]))


def _receiver_part(stream: AirCompProblem, weight: float, design_of: Design) -> TransceiverDesign:
    if weight == 0 or stream.num_devices == 0:
        silence = np.zeros(stream.num_devices, dtype=np.complex128)
        return TransceiverDesign(silence, np.zeros(stream.num_antennas, dtype=np.complex128))
    flat = design_of(stream, normal_form.apply(stream))
    return TransceiverDesign(flat.transmit_scalars[0], flat.receive_beamformer[0])
