"""From a combined design to a solution with the best certificate at hand."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from optim.combined import mse
from optim.combined.bound import closed_form_multipliers, combined_dual_value, stationary_multipliers
from optim.combined.form import Beams, CombinedForm
from optim.combined.mse import AnyDesign
from optim.combined.solution import CombinedSolution
from optim.solution import PROVABLE, PROVED_GAP, History, Status


def certified(
    form: CombinedForm,
    beams: Beams,
    power: Float[np.ndarray, "J K"],
    status: Status,
    history: History,
) -> CombinedSolution:
    """The solution of given beams and relative power caps, with the multipliers they stand for."""
    multipliers = stationary_multipliers(form, beams, power)[None]
    return certified_design(form, form.design(beams, power), multipliers, status, history)


def certified_design(
    form: CombinedForm,
    design: AnyDesign,
    multipliers: Float[np.ndarray, "C J K"],
    status: Status,
    history: History,
) -> CombinedSolution:
    """The solution of any design; `multipliers` join the closed-form sets."""
    candidates = np.concatenate([closed_form_multipliers(form), multipliers])
    errors = mse.stream_mse(form.problem, design)
    solution = CombinedSolution(
        design=design,
        pi=float(form.problem.stream_weights @ errors),
        objective=mse.objective(form.problem, design),
        stream_mse=errors,
        lower_bound=float(combined_dual_value(form, candidates).max()),
        certified=not form.interfering,
        status=Status.SILENT if form.silent else status,
        history=history,
    )
    proved = solution.status in PROVABLE and solution.gap <= PROVED_GAP
    return replace(solution, status=Status.PROVED_OPTIMAL) if proved else solution
