"""The errors of any design on any problem, also one that it was not designed for."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optim import mse
from optim.combined.mse import AnyDesign, AnyProblem, require_fit, stream_mse
from optim.design import TransceiverDesign
from optim.problem import AirCompProblem


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Error of one receiver's design, in its parts."""

    misalignment: Float[np.ndarray, "*batch"] | float
    csi_term: Float[np.ndarray, "*batch"] | float
    noise_term: Float[np.ndarray, "*batch"] | float

    @property
    def mse(self) -> Float[np.ndarray, "*batch"] | float:
        """Mean squared error per complex symbol."""
        return self.misalignment + self.csi_term + self.noise_term


@dataclass(frozen=True, eq=False)
class CombinedEvaluation:
    """Pi of a combined design, and the error of each stream (base station first, block by block)."""

    pi: float
    stream_mse: Float[np.ndarray, "streams"]


def evaluate_receiver(problem: AirCompProblem, design: TransceiverDesign) -> Evaluation:
    """All parts of the error; floats for a single problem."""
    design.require_fit(problem.stacked_channel.shape, "design")
    parts = [part(problem, design) for part in (mse.misalignment, mse.csi_error, mse.noise)]
    return Evaluation(*(part if part.ndim else float(part) for part in parts))


def evaluate_combined(problem: AnyProblem, design: AnyDesign) -> CombinedEvaluation:
    """Pi and its streams."""
    require_fit(problem, design)
    errors = stream_mse(problem, design)
    return CombinedEvaluation(float(problem.stream_weights @ errors), errors)
