"""Descent on Pi: one phase step per receiver, then every device's exact power split, in turn."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from optim.combined.certify import certified
from optim.combined.form import Beams, CombinedForm, ReceiverStack, normalise, per_stack
from optim.combined.mse import AnyProblem
from optim.combined.power_split import available_power
from optim.combined.solution import CombinedSolution
from optim.homotopy import COARSE
from optim.momentum import trial_points
from optim.options import SolverOptions
from optim.phase_step import phase_step
from optim.solution import Status
from optim.starts import repeated, screened_starts


@dataclass(frozen=True, eq=False)
class State:
    """Where a batch of descents stands: beams, relative power caps, error relative to silence, last move."""

    beams: Beams
    power: Float[np.ndarray, "S J K"]
    error: Float[np.ndarray, "S"]
    moves: Beams


def descend(problem: AnyProblem, options: SolverOptions) -> CombinedSolution:
    """Screened starts, tracked through softer problems, then joint descent; certified."""
    form = normalise(problem)
    beams = screened_beams(form, options)
    return refine(form, tracked(form, beams, equal_split(form, options.starts)), options)


def refine(form: CombinedForm, state: State, options: SolverOptions) -> CombinedSolution:
    """Joint descent of every start in the batch; the best of them, certified. No start's Pi ever rises."""
    histories, status = [state.error], Status.ITERATION_LIMIT
    for _ in range(options.max_iterations):
        advanced = accelerated_step(form, state)
        fall = state.error - advanced.error
        state = advanced
        histories.append(state.error)
        if (fall <= options.tolerance * state.error).all():
            status = Status.CONVERGED
            break
    best = int(np.argmin(state.error))
    history = tuple(float(errors[best]) * form.scale for errors in histories)
    beams = per_stack(lambda points: points[best], state.beams)
    return certified(form, beams, state.power[best], status, history)


def accelerated_step(form: CombinedForm, state: State) -> State:
    """The best trial around one phase step per receiver, each trial with its own exact power split."""
    stepped = receiver_steps(form, state.beams, state.power)
    trials = per_stack(trial_points, state.beams, stepped, state.moves)  # T S receivers n
    strengths = form.strengths(trials)
    power = available_power(form.budgets, strengths)
    errors = form.error(trials, strengths, power)  # T S
    best, every = np.argmin(errors, axis=0), np.arange(len(state.error))
    fell = errors[best, every] < state.error
    fell = fell[:, None, None]
    beams = per_stack(lambda trial, old: np.where(fell, trial[best, every], old), trials, state.beams)
    return State(
        beams=beams,
        power=np.where(fell, power[best, every], state.power),
        error=np.minimum(errors[best, every], state.error),
        moves=per_stack(np.subtract, beams, state.beams),
    )


def tracked(form: CombinedForm, beams: Beams, power: Float[np.ndarray, "S J K"]) -> State:
    """A few joint steps on each softer problem in turn, then the state on the problem itself."""
    softest = per_stack(lambda stack: COARSE.softest_factors(stack.rows, stack.targets), form.stacks)
    num_levels = max(int(COARSE.level_counts(factors).max()) for factors in softest)
    for level in range(num_levels, 0, -1):
        softer = form.softened(per_stack(partial(COARSE.factors_at, level=level), softest))
        state = resting(softer, beams, power)
        for _ in range(COARSE.steps):
            state = accelerated_step(softer, state)
        beams, power = state.beams, state.power
    return resting(form, beams, power)


def resting(form: CombinedForm, beams: Beams, power: Float[np.ndarray, "S J K"]) -> State:
    """A state without momentum."""
    error = form.error(beams, form.strengths(beams), power)
    return State(beams, power, error, per_stack(np.zeros_like, beams))


def screened_beams(form: CombinedForm, options: SolverOptions) -> Beams:
    """For each receiver the best few of many short descents at equal split and easy noise.

    Receivers are coupled only through powers, so each ranks its own: start s takes the s-th best of every
    receiver.
    """
    rng = options.generator()
    return per_stack(
        lambda stack: screened_starts(stack.rows, stack.targets, options.starts, rng), form.stacks
    )


def equal_split(form: CombinedForm, num_starts: int) -> Float[np.ndarray, "S J K"]:
    """The same power in all phases."""
    return np.ones((num_starts, *form.budgets.targets.shape))


def receiver_steps(form: CombinedForm, beams: Beams, power: Float[np.ndarray, "S J K"]) -> Beams:
    """One phase step at every receiver under the present powers."""

    def step(stack: ReceiverStack, available: np.ndarray, points: np.ndarray) -> np.ndarray:
        return phase_step(stack.powered_rows(available), repeated(stack.targets, len(points)), points)

    return per_stack(step, form.stacks, tuple(np.moveaxis(power, -2, 0)), beams)
