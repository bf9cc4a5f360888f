"""Pi of any combined design, whatever it was designed for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

from optim import mse
from optim.combined.problem import CombinedProblem
from optim.design import CombinedDesign


def stream_mse(problem: CombinedProblem, design: CombinedDesign) -> Float[np.ndarray, "E1"]:
    """Error of each stream, the base station first."""
    pairs = zip(problem.streams_at_peak, design.streams, strict=True)
    return np.array([float(mse.aggregation_mse(stream, part)) for stream, part in pairs])


def pi(problem: CombinedProblem, design: CombinedDesign) -> float:
    r""":math:`\Pi = \sum_i W_i \mathrm{MSE}_i`, errors weighted by rank and data [Sun, Theorem 3, Eq. 41]."""
    return float(problem.stream_weights @ stream_mse(problem, design))


def correlated_stream_mse(
    problem: CombinedProblem, design: CombinedDesign, correlations: Sequence[Shaped[np.ndarray, "_ _"]]
) -> Float[np.ndarray, "E1"]:
    """Error of each stream for symbols with the given correlation matrices, one per stream."""
    parts = zip(problem.streams_at_peak, design.streams, correlations, strict=True)
    return np.array([float(mse.correlated_mse(*part)) for part in parts])
