"""From a combined design to a solution with the best certificate at hand."""

import numpy as np
from jaxtyping import Float

from optim.combined.bound import closed_form_multipliers, combined_dual_value, stationary_multipliers
from optim.combined.form import Beams, CombinedForm
from optim.combined.mse import stream_mse
from optim.combined.solution import CombinedSolution
from optim.design import CombinedDesign
from optim.solution import History, Status


def certified(
    form: CombinedForm, beams: Beams, power: Float[np.ndarray, "2 K"], status: Status, history: History
) -> CombinedSolution:
    """The solution of given beams and relative power caps, with the multipliers they stand for."""
    multipliers = stationary_multipliers(form, beams, power)[None]
    return certified_design(form, form.design(beams, power), multipliers, status, history)


def certified_design(
    form: CombinedForm,
    design: CombinedDesign,
    multipliers: Float[np.ndarray, "C 2 K"],
    status: Status,
    history: History,
) -> CombinedSolution:
    """The solution of any design; `multipliers` join the closed-form sets."""
    candidates = np.concatenate([closed_form_multipliers(form), multipliers])
    errors = stream_mse(form.problem, design)
    return CombinedSolution(
        design=design,
        pi=float(form.problem.stream_weights @ errors),
        stream_mse=errors,
        lower_bound=float(combined_dual_value(form, candidates).max()),
        status=Status.SILENT if form.silent else status,
        history=history,
    )
