"""Starting points out of the solved relaxation: leading eigenvectors, then the best of many samples."""

import numpy as np
from jaxtyping import Complex, Float

from optim.combined.form import Beams, CombinedForm
from optim.combined.interior_point import Relaxation
from optim.combined.stack import ReceiverStack
from optim.options import SolverOptions
from optim.phase_step import reduced_error
from optim.starts import drawn_starts, repeated
from optim.threshold import scaled_along

SAMPLES_PER_START = 8


def relaxed_starts(form: CombinedForm, relaxation: Relaxation, options: SolverOptions) -> Beams:
    """For each receiver the leading eigenvector of its covariance, then its best samples.

    All are at their best scale for the relaxation's powers; start s takes the s-th best of every receiver.
    Receivers of a phase share their random numbers, so that the order of tasks does not matter.
    """
    rng = options.generator()
    parts = zip(form.stacks, relaxation.covariances, relaxation.power, strict=True)
    return tuple(_drawn(stack, covariance, power, options.starts, rng) for stack, covariance, power in parts)


def _drawn(
    stack: ReceiverStack,
    covariance: Complex[np.ndarray, "r n n"],
    power: Float[np.ndarray, "K"],
    num_starts: int,
    rng: np.random.Generator,
) -> Complex[np.ndarray, "S r n"]:
    directions = drawn_starts(covariance, 1 + SAMPLES_PER_START * (num_starts - 1), rng)
    directions = np.where((stack.rows != 0).any(axis=-2), directions, 0.0)  # no power into dead antennas
    rows = repeated(stack.powered_rows(power), len(directions))
    targets = repeated(stack.targets, len(directions))
    points = scaled_along(rows, targets, directions)
    order = np.argsort(reduced_error(rows, targets, points)[1:], axis=0, kind="stable")[: num_starts - 1]
    return np.concatenate([points[:1], np.take_along_axis(points[1:], order[..., None], axis=0)])
