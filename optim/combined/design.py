"""The default for combined problems: solve the relaxation, descend from what it suggests, certify.

From eight starts on, and where many devices crowd before few antennas, as many again are tracked through
softer problems: those of the relaxation alone miss good valleys more often, and are up to half as bad again
in a crowd. Some problems still need more starts.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.combined import joint, sqp
from optim.combined.bound import stationary_multipliers
from optim.combined.certify import certified_design
from optim.combined.form import Beams, CombinedForm, normalise, per_stack
from optim.combined.interior_point import relax
from optim.combined.layout import leaves_out
from optim.combined.mse import AnyProblem
from optim.combined.reduced import ReducedObjective
from optim.combined.relaxed_starts import relaxed_starts
from optim.combined.solution import CombinedSolution
from optim.options import SolverOptions
from optim.solution import Status

# Tracking takes half as long again: fewer starts are for those who design thousands of rounds.
MANY_STARTS = 8
# Devices per antenna of a receiver beyond which even few starts are tracked.
CROWD = 6

Starts = Complex[np.ndarray, "_ r n"]


def design(problem: AnyProblem, options: SolverOptions) -> CombinedSolution:
    """A design of all receivers and its bound; without interference between tasks it is certified.

    With an infinite `bound_tolerance` no relaxation is solved: starts come from softer problems alone, and
    the bound from closed-form multipliers.
    """
    form = normalise(problem)
    multipliers: list[Float[np.ndarray, "J K"]] = []
    if np.isfinite(options.bound_tolerance):
        relaxation = relax(form, options.bound_tolerance)
        starts = relaxed_starts(form, relaxation, options)
        if options.starts >= MANY_STARTS or _crowded(form):
            starts = per_stack(_joined, starts, _tracked_starts(form, options))
        multipliers.append(relaxation.multipliers)
    else:
        starts = _tracked_starts(form, options)
    objective = ReducedObjective(form)
    descent = sqp.descend(objective, objective.join(starts), options)
    beams, power = objective.split(descent.point), objective.split_power(descent.point)
    multipliers.append(stationary_multipliers(form, beams, power))
    return certified_design(
        form,
        form.design(beams, power),
        np.stack(multipliers),
        _ending(descent, loose=bool(np.isfinite(options.bound_tolerance)) and leaves_out(form)),
        tuple(error * form.scale for error in descent.history),
    )


def _ending(descent: sqp.Descent, *, loose: bool) -> Status:
    if not descent.converged:
        return Status.ITERATION_LIMIT
    return Status.LOOSE_BOUND if loose else Status.CONVERGED


def _crowded(form: CombinedForm) -> bool:
    return any(stack.rows.shape[1] > CROWD * stack.rows.shape[2] for stack in form.stacks)


def _tracked_starts(form: CombinedForm, options: SolverOptions) -> Beams:
    beams = joint.screened_beams(form, options)
    return joint.tracked(form, beams, joint.equal_split(form, options.starts)).beams


def _joined(one: Starts, other: Starts) -> Starts:
    return np.concatenate([one, other])
