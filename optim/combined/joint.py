"""Descent on Pi: one phase step per receiver, then every device's exact power split, in turn."""

import numpy as np
from jaxtyping import Complex, Float

from optim.combined.bound import closed_form_multipliers, combined_dual_value, stationary_multipliers
from optim.combined.form import Beams, CombinedForm, ReceiverStack, normalise
from optim.combined.mse import stream_mse
from optim.combined.power_split import available_power
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.phase_step import phase_step, reduced_error
from optim.solution import Status
from optim.options import SolverOptions
from optim.starts import repeated, starting_points

Power = Float[np.ndarray, "2 K"]


def descend(problem: CombinedProblem, options: SolverOptions) -> CombinedSolution:
    """Best of several starts per receiver at equal split, then joint descent; certified."""
    form = normalise(problem)
    beams = screened_beams(form, options)
    return refine(form, beams, equal_split(form), options)


def refine(form: CombinedForm, beams: Beams, power: Power, options: SolverOptions) -> CombinedSolution:
    """Joint descent from given beams and relative powers; Pi never rises."""
    error = float(form.error(beams, form.strengths(beams), power))
    history, status = [error * form.scale], Status.ITERATION_LIMIT
    for _ in range(options.max_iterations):
        next_beams = receiver_steps(form, beams, power)
        strengths = form.strengths(next_beams)
        next_power = available_power(form.budgets, strengths)
        next_error = float(form.error(next_beams, strengths, next_power))
        if next_error < error:
            history.append(next_error * form.scale)
            beams, power = next_beams, next_power
        fall, error = error - next_error, min(error, next_error)
        if fall <= options.tolerance * error:
            status = Status.CONVERGED
            break
    return certified(form, beams, power, status, tuple(history))


def screened_beams(form: CombinedForm, options: SolverOptions) -> Beams:
    """For each receiver the best of several short descents at equal split.

    Receivers are coupled only through powers, so each picks its own start: with S starts and E + 1 receivers
    the best of S^(E + 1) combinations.
    """
    rng = options.generator()
    base, edges = (_screen(stack, options, rng) for stack in form.stacks)
    return base, edges


def _screen(
    stack: ReceiverStack, options: SolverOptions, rng: np.random.Generator
) -> Complex[np.ndarray, "receivers n"]:
    points = starting_points(stack.rows, stack.targets, options.starts, rng)
    rows, targets = repeated(stack.rows, options.starts), repeated(stack.targets, options.starts)
    for _ in range(max(2, options.max_iterations // 4)):
        points = phase_step(rows, targets, points)
    best = np.argmin(reduced_error(rows, targets, points), axis=0)
    return points[best, np.arange(len(best))]


def equal_split(form: CombinedForm) -> Power:
    """The same power towards the base station and towards the edge server."""
    return np.ones((2, form.problem.num_devices))


def receiver_steps(form: CombinedForm, beams: Beams, power: Power) -> Beams:
    """One phase step at every receiver under the present powers."""
    base, edges = (
        phase_step(stack.powered_rows(available), stack.targets, points)
        for stack, available, points in zip(form.stacks, power, beams, strict=True)
    )
    return base, edges


def certified(
    form: CombinedForm, beams: Beams, power: Power, status: Status, history: tuple[float, ...]
) -> CombinedSolution:
    """The solution of given beams and relative powers, with the best certificate at hand."""
    candidates = np.concatenate([closed_form_multipliers(form), stationary_multipliers(form, beams, power)[None]])
    design = form.design(beams, power)
    errors = stream_mse(form.problem, design)
    return CombinedSolution(
        design=design,
        pi=float(form.problem.stream_weights @ errors),
        stream_mse=errors,
        lower_bound=float(combined_dual_value(form, candidates).max()),
        status=status,
        history=history,
    )
