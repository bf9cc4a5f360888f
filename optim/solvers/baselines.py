"""What one would do without an optimiser: full power, channel inversion, an even split of powers."""

from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from jaxtyping import Complex

from optim import mse
from optim.design import TransceiverDesign
from optim.directions import pick, unit
from optim.infeasible import InfeasibleError
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import aligned_rows, arriving, back_rotations
from optim.problem import AirCompProblem
from optim.solution import Solution, Status
from optim.solvers.alternating import mmse_point
from optim.solvers.separate import AbstractSeparateSolver
from optim.solvers.single_antenna import Automatic
from optim.starts import repeated, starting_points


@final
@dataclass(frozen=True)
class EqualSplit(AbstractSeparateSolver):
    r"""As `auto`, but a combined budget is split evenly: what coupling is worth.

    Every device may send with :math:`p^s = p^p = \min(\bar P, P^{\rm peak})`, and every receiver is designed
    alone. One receiver has nothing to split.
    """

    takes_device_antennas = True
    options: SolverOptions = field(default_factory=SolverOptions)

    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """The default design of each problem."""
        return self.solve_receiver(problem.flattened()).design

    def designed_stream(self, stream: AirCompProblem) -> tuple[TransceiverDesign, Status]:
        """The default design, which may be iterated, and how that ended."""
        solution = self.solve_receiver(stream.flattened())
        status = solution.status if isinstance(solution.status, Status) else solution.status[0]
        return solution.design, status

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        """The default design, with its tight bound."""
        return Automatic(self.options).solve_receiver(problem)


@final
@dataclass(frozen=True)
class FullPower(AbstractSeparateSolver):
    """Everybody sends at full power; the receiver is the MMSE one for phases aligned to one direction.

    Phases are then aligned to that receiver. The direction is the best of the starting points. A combined
    budget is split evenly over both phases.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """All there is, in phase behind the receiver."""
        directions = starting_directions(form, self.options)
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
class ChannelInversion(AbstractSeparateSolver):
    r"""Every device arrives exactly as wanted; the weakest sets the scale.

    .. math:: m = f / \sqrt\eta, \quad \eta = \min_k P_k |f^H h_k|^2 / \omega_k^2, \quad
              \mathrm{MSE} = \sigma^2 / \eta

    The direction f is the best of the starting points, of at least two: samples hear every device that can
    be heard, the first direction may not. A combined budget is split evenly over both phases.

    Raises:
        InfeasibleError: if a device with a target has no power or no channel.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """The least noise at which all arrive as wanted."""
        flat = problem.flattened()
        _require_all_heard(flat, form, bool(problem.batch_shape))
        units = unit(starting_directions(form, replace(self.options, starts=max(self.options.starts, 2))))
        size = np.abs(arriving(form.rows, units))
        amplitude = np.divide(form.targets, size, out=np.full(size.shape, np.inf), where=size > 0)
        scales = np.where(form.targets > 0, amplitude, 0.0).max(axis=-1)
        best = np.argmin(scales, axis=0)
        beamformer = form.invert(pick(units, best) * pick(scales, best)[:, None])
        gains = mse.beam_gains(flat, beamformer)
        vectors = mse.inverting_vectors(gains, flat.target_gains, flat.power_budget_w)
        return TransceiverDesign(vectors[..., 0], beamformer)


def _require_all_heard(flat: AirCompProblem, form: NormalForm, batch: bool) -> None:
    # As in the normal form: what leaves the floats is not heard.
    size = np.abs(flat.channel).max(axis=-1) / form.deviation[:, None] * np.sqrt(flat.power_budget_w)
    for index, device in np.argwhere((size == 0) & (flat.target_gains > 0)):
        reason = "power_budget_w is 0 W" if flat.power_budget_w[index, device] == 0 else "channel is 0"
        raise InfeasibleError(
            f"device {device}{f' of problem {index} in the batch' if batch else ''} cannot be heard, since "
            f"its {reason}, but inversion needs it to arrive with target_gains = "
            f"{flat.target_gains[index, device]:g}: use method 'truncated-inversion', which drops such "
            "devices, or set its target to 0"
        )


def starting_directions(form: NormalForm, options: SolverOptions) -> Complex[np.ndarray, "S B n"]:
    """The starting points that a descent would have."""
    return starting_points(form.rows, form.targets, options.starts, options.generator())
