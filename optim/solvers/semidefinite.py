r"""The joint MMSE relaxation: lift every beamformer, solve a convex problem, extract, refine, certify.

With :math:`M_i \succeq 0` for :math:`m_i m_i^H` the problem becomes convex including the power split. Its
optimum is a lower bound, attained when every receiver hears at most three devices or has one antenna (a
solution of rank :math:`\lfloor \sqrt{K_i} \rfloor` exists). The reported bound is not the solver's value,
which is inexact, but the certificate of its multipliers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast, final

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float

from optim import normal_form
from optim.combined import joint
from optim.combined.bound import combined_dual_value
from optim.combined.form import Beams, CombinedForm, ReceiverStack, normalise
from optim.combined.mse import AnyProblem
from optim.combined.power_split import available_power
from optim.combined.solution import CombinedSolution
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.phase_step import reduced_error
from optim.problem import AirCompProblem
from optim.solution import History, Solution, Status
from optim.solvers import conic
from optim.solvers.base import AbstractTransceiverSolver, assemble, assemble_beams
from optim.solvers.descent import best_of, descend, flat_copies, rescaled
from optim.solvers.own_constraints import SOLVER_ACCURACY, Constraints, own_constraints
from optim.solvers.phase_mm import PhaseMajoriseMinimise, accelerated_step
from optim.solvers.relaxation import Lifted, relax_combined, relax_receiver
from optim.starts import repeated
from optim.threshold import scaled_along

# Iterations spent on the design whose error scales the relaxation.
SCOUT_ITERATIONS = 30
SAMPLES_PER_START = 8


@final
@dataclass(frozen=True)
class SemidefiniteRelaxation(AbstractTransceiverSolver):
    """The relaxation's tight bound, and the best of the designs drawn from its solution.

    Args:
        constraints: of your own, for one receiver: a function of an object whose `power_w` is a cvxpy
            expression, the watts that each device may spend, that returns cvxpy constraints. They must still
            hold when a device sends with less. In a batch it is called for each problem. The design keeps
            them; `lower_bound` is that of the problem without them, so it is valid but lower.

    All devices together may spend two watts:

        import cvxpy as cp
        solver = SemidefiniteRelaxation(constraints=lambda v: [cp.sum(v.power_w) <= 2.0])
        solution = optim.solve(problem, solver)

    Raises:
        InfeasibleError: if the constraints cannot be met; it says by how much each would have to give way.
    """

    options: SolverOptions = field(default_factory=SolverOptions)
    constraints: Constraints | None = None

    def solve_receiver(self, problem: AirCompProblem) -> Solution:
        if self.constraints is not None:
            return _constrained(problem, self.constraints, self.options)
        form = normal_form.apply(problem)
        scout = self._scout().solve_receiver(problem.flattened())
        starts = np.repeat(
            form.project(scout.design.receive_beamformer)[None], self.options.starts + 1, axis=0
        )
        values = reduced_error(form.rows, form.targets, starts[0])
        solver = self.options.conic_solver
        lifted = [_relax_receiver(form, index, float(value), solver) for index, value in enumerate(values)]
        for index, part in enumerate(lifted):
            for covariance in part.covariances.values():
                rows, targets = form.rows[index], form.targets[index]
                rng = self.options.generator()  # a member of a batch draws what it would draw alone
                starts[1:, index] = drawn(covariance, rows, targets, self.options.starts, rng)
        rows, targets = flat_copies(form.rows, form.targets, len(starts))
        points, histories = descend(
            rows, targets, starts.reshape(len(rows), -1), accelerated_step, self.options
        )
        best, endings = best_of(points, histories, len(form.rows), self.options)
        endings = [(_status(part.verdict, s), h) for part, (s, h) in zip(lifted, endings, strict=True)]
        multipliers = np.stack([part.multipliers[0] for part in lifted])[None]
        return assemble_beams(problem, form, best, rescaled(endings, form), multipliers)

    def solve_combined(self, problem: AnyProblem) -> CombinedSolution:
        if self.constraints is not None:
            raise ValueError(
                "constraints are for one receiver, but the problem is a combined one: limit its powers by "
                "average_power_w and peak_power_w"
            )
        form = normalise(problem)
        scout = self._scout().solve_combined(problem)
        lifted = _relax_combined(form, scout.objective / form.scale, self.options.conic_solver)
        beams = _drawn_beams(form, lifted, form.project(scout.design), self.options)
        power = available_power(form.budgets, form.strengths(beams))
        solution = joint.refine(form, joint.resting(form, beams, power), self.options)
        bound = max(solution.lower_bound, float(combined_dual_value(form, lifted.multipliers[None])[0]))
        return replace(solution, lower_bound=bound, status=_status(lifted.verdict, solution.status))

    def _scout(self) -> PhaseMajoriseMinimise:
        return _scout(self.options)


def drawn(
    covariance: Complex[np.ndarray, "n n"],
    rows: Complex[np.ndarray, "K n"],
    targets: Float[np.ndarray, "K"],
    num_starts: int,
    rng: np.random.Generator,
) -> Complex[np.ndarray, "S n"]:
    """The principal eigenvector and the best Gaussian samples of a covariance, each at its best scale."""
    spread, modes = np.linalg.eigh(covariance)
    shape = SAMPLES_PER_START * num_starts, len(spread)
    coefficients = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    samples = (coefficients * np.sqrt(np.maximum(spread, 0.0))) @ modes.T
    directions = np.concatenate([modes[None, :, -1], samples])
    many_rows, many_targets = repeated(rows, len(directions)), repeated(targets, len(directions))
    points = scaled_along(many_rows, many_targets, directions)
    order = np.argsort(reduced_error(many_rows, many_targets, points)[1:], kind="stable")[: num_starts - 1]
    return np.concatenate([points[:1], points[1 + order]])


def _drawn_beams(form: CombinedForm, lifted: Lifted, scout: Beams, options: SolverOptions) -> Beams:
    """The scout's beams, then per receiver the draws of its covariance at the relaxation's powers."""
    rng = options.generator()
    beams = tuple(np.repeat(points[None], options.starts + 1, axis=0) for points in scout)
    for (phase, receiver), covariance in lifted.covariances.items():
        stack: ReceiverStack = form.stacks[phase]
        rows = stack.powered_rows(lifted.power[phase])[receiver]
        beams[phase][1:, receiver] = drawn(covariance, rows, stack.targets[receiver], options.starts, rng)
    return beams


def _constrained(problem: AirCompProblem, constraints: Constraints, options: SolverOptions) -> Solution:
    """The best design within the powers that the constrained relaxation allows."""
    form, flat = normal_form.apply(problem), problem.flattened()
    values = np.ravel(_scout(options).solve_receiver(flat).objective)
    owned, capped, multipliers, verdicts = [], [], [], []
    for index, value in enumerate(((values - form.lost) / np.where(form.silent, 1.0, form.scale)).tolist()):
        place = f" of problem {index} in the batch" if problem.batch_shape else ""
        alone = problem.instance(index)
        owned.append(own_constraints(alone, constraints, place))
        allowed = owned[-1].best_power(normal_form.apply(alone), value, options.conic_solver)
        capped.append(alone.power_budget_w * np.minimum(allowed.power[0], 1.0) * (1 - SOLVER_ACCURACY))
        verdicts.append(allowed.verdict)
        multipliers.append(_relax_receiver(form, index, value, options.conic_solver).multipliers[0])
    best = SemidefiniteRelaxation(options).solve_receiver(flat.replaced(power_budget_w=np.stack(capped)))
    for own, spent_w, budget_w in zip(owned, best.power_w, flat.power_budget_w, strict=True):
        own.require_kept(spent_w / np.where(budget_w > 0, budget_w, 1.0))
    # An optimum within these powers need not be one within others that the constraints allow.
    unproved = {Status.PROVED_OPTIMAL: Status.CONVERGED}
    endings = [
        (_status(verdict, unproved.get(status, status)), history)
        for verdict, (status, history) in zip(verdicts, _endings(best), strict=True)
    ]
    return assemble(problem, form, best.design, endings, np.stack(multipliers)[None])


def _endings(batch: Solution) -> list[tuple[Status, History]]:
    """How each problem of a batch ended."""
    assert isinstance(batch.status, tuple)
    histories = cast("Sequence[History]", batch.history)
    return list(zip(batch.status, histories, strict=True))


def _scout(options: SolverOptions) -> PhaseMajoriseMinimise:
    return PhaseMajoriseMinimise(replace(options, max_iterations=SCOUT_ITERATIONS))


def _relax_receiver(form: NormalForm, index: int, upper_bound: float, solver: str) -> Lifted:
    """The relaxation for one receiver: every device has its whole power."""
    stream = conic.receiver_stream(form.rows[index], form.targets[index], upper_bound)
    num_devices = form.targets.shape[1]
    if stream is None:
        return Lifted({}, np.ones((2, num_devices)), np.zeros((2, num_devices)), cp.OPTIMAL)
    return relax_receiver(stream, num_devices, solver)


def _relax_combined(form: CombinedForm, upper_bound: float, solver: str) -> Lifted:
    """The joint relaxation over beams and powers."""
    streams = conic.combined_streams(form, upper_bound)
    if not streams:
        shape = form.budgets.targets.shape
        return Lifted({}, np.ones(shape), np.zeros(shape), cp.OPTIMAL)
    return relax_combined(streams, form.budgets, solver)


def _status(verdict: str, status: Status) -> Status:
    """What the convex solver said, if it was not plainly optimal; else how the refinement ended."""
    return conic.STATUSES.get(verdict, status)
