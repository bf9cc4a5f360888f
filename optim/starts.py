r"""Starting points: the leading eigenvector of an equalised covariance, then Gaussian samples of it.

The covariance :math:`\sum_k \lambda_k a_k^H a_k` weighs each device by the multiplier it would have if every
channel were aligned no better than a random direction, :math:`\lambda_k = (w_k / |a_k x| - 1)_+` with
:math:`|a_k x| = \|a_k\| r / \sqrt n`: strong devices count at low, weak ones at high signal-to-noise ratio.
Samples are drawn in the eigenbasis, its phases fixed by the channels, so that renaming devices or rotating
antennas changes no result.
"""

import numpy as np
from jaxtyping import Complex, Float, Shaped

from optim.homotopy import COARSE
from optim.normal_form import adjoint
from optim.phase_step import back_rotations, phase_step, reduced_error
from optim.threshold import best_scale, scaled_along

CANDIDATES_PER_START = 8
SCREENING_STEPS = 2
# Powers of the covariance that samples are drawn by, in turn.
ROOTS = (0.5, 0.25)


def starting_points(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    num_starts: int,
    rng: np.random.Generator,
) -> Complex[np.ndarray, "S *batch n"]:
    """`num_starts` points per problem, each at the best scale along its direction."""
    spread, modes = _eigenmodes(rows, targets, _equalising_multipliers(rows, targets))
    shape = (num_starts - 1, rows.shape[-1])
    coefficients = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)  # S-1 n
    coefficients = coefficients.reshape(num_starts - 1, *(1,) * (rows.ndim - 2), rows.shape[-1])
    samples = (modes @ (coefficients * np.sqrt(spread))[..., None])[..., 0]  # S-1 *batch n
    directions = np.concatenate([modes[None, ..., :, -1], samples])
    return scaled_along(repeated(rows, num_starts), repeated(targets, num_starts), directions)


def drawn_starts(
    covariance: Complex[np.ndarray, "B n n"], num_starts: int, rng: np.random.Generator
) -> Complex[np.ndarray, "S B n"]:
    """The principal eigenvector of each covariance, and directions drawn from it.

    Samples by the covariance's root take turns with ones by its fourth root, which reach further; and they
    come in orthogonal sets.
    """
    spread, modes = np.linalg.eigh(covariance)
    largest = spread[:, -1:]
    relative = np.maximum(spread, 0.0) / np.where(largest > 0, largest, 1.0)
    noise = _orthogonal_sets(num_starts - 1, covariance.shape[-1], rng)[:, None, :, None]  # S-1 1 n 1
    exponents = np.resize(ROOTS, num_starts - 1)[:, None, None, None]
    samples = modes @ (relative[..., None] ** exponents * (adjoint(modes) @ noise))
    return np.concatenate([modes[None, ..., -1], samples[..., 0]])


def _orthogonal_sets(count: int, dimension: int, rng: np.random.Generator) -> Complex[np.ndarray, "S n"]:
    """Directions uniform on the sphere, each `dimension` of them orthogonal to each other."""
    shape = (-(-count // max(dimension, 1)), dimension, dimension)
    gaussian = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return np.swapaxes(np.linalg.qr(gaussian)[0], -1, -2).reshape(-1, dimension)[:count]


def screened_starts(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    num_starts: int,
    rng: np.random.Generator,
) -> Complex[np.ndarray, "S *batch n"]:
    """The best of many starting points after a few phase steps on the softest problem, best first."""
    softest = rows * COARSE.softest_factors(rows, targets)[..., None, None]
    num_candidates = CANDIDATES_PER_START * num_starts
    points = starting_points(softest, targets, num_candidates, rng)
    all_rows, all_targets = repeated(softest, num_candidates), repeated(targets, num_candidates)
    for _ in range(SCREENING_STEPS):
        points = phase_step(all_rows, all_targets, points)
    order = np.argsort(reduced_error(all_rows, all_targets, points), axis=0, kind="stable")[:num_starts]
    return np.take_along_axis(points, order[..., None], axis=0)


def repeated(array: Shaped[np.ndarray, "*shape"], times: int) -> Shaped[np.ndarray, "S *shape"]:
    """The same array `times` times along a new first axis, without a copy."""
    return np.broadcast_to(array, (times, *array.shape))


def _equalising_multipliers(
    rows: Complex[np.ndarray, "*batch K n"], targets: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "*batch K"]:
    strengths = np.sqrt((np.abs(rows) ** 2).sum(axis=-1) / rows.shape[-1])
    expected = strengths * best_scale(strengths, targets)[..., None]
    heard = expected > 0
    shortfall = np.where(heard, targets / np.where(heard, expected, 1.0), 0.0)
    return np.maximum(shortfall - 1, 0.0) + 0.1 * shortfall


def _eigenmodes(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    multipliers: Float[np.ndarray, "*batch K"],
) -> tuple[Float[np.ndarray, "*batch n"], Complex[np.ndarray, "*batch n n"]]:
    """Eigenvalues (rising) and eigenvectors of the weighted covariance, phases tied to the leading one."""
    weighted = np.sqrt(multipliers)[..., None] * rows
    spread, modes = np.linalg.eigh(np.swapaxes(weighted.conj(), -1, -2) @ weighted)
    received = rows @ modes  # *batch K n
    leading = received[..., -1]
    ties = (
        np.swapaxes(received, -1, -2) @ (targets * leading.conj() * np.abs(leading))[..., None]
    )  # *batch n 1
    return np.maximum(spread, 0.0), modes * back_rotations(ties[..., 0])[..., None, :]
