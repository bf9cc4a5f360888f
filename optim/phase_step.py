r"""One majorise-minimise step on the phases: the error falls, whatever the starting point.

The reduced error :math:`f(x) = \|x\|^2 + \sum_k (w_k - |a_k x|)_+^2` is not convex, but
:math:`|z| \ge \Re\{e^{-j\theta} z\}` with equality at :math:`\theta = \arg z`. Freezing the phases
at the present point gives a convex majoriser that touches f there; its minimiser is a hinge problem.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim import hinge


def arriving(
    rows: Complex[np.ndarray, "*#batch K n"], point: Complex[np.ndarray, "*#batch n"]
) -> Complex[np.ndarray, "... K"]:
    """``z_k = a_k x``: what arrives from a device at full power."""
    return (rows @ point[..., None])[..., 0]


def magnitudes(
    signals: Complex[np.ndarray, "*batch KT"], device_antennas: int
) -> Float[np.ndarray, "*batch K"]:
    """``|z_k|``, over the antennas of each device."""
    if device_antennas == 1:
        return np.abs(signals)
    squares = signals.real**2 + signals.imag**2
    return np.sqrt(squares.reshape(*signals.shape[:-1], -1, device_antennas).sum(axis=-1))


def reduced_error(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    point: Complex[np.ndarray, "*batch n"],
) -> Float[np.ndarray, "*batch"]:
    """``f(x) = |x|^2 + sum_k (w_k - |a_k x|)_+^2``."""
    shortfall = np.maximum(targets - np.abs(arriving(rows, point)), 0.0)
    return np.asarray((np.abs(point) ** 2).sum(axis=-1) + (shortfall**2).sum(axis=-1))


def phase_step(
    rows: Complex[np.ndarray, "*batch K n"],
    targets: Float[np.ndarray, "*batch K"],
    point: Complex[np.ndarray, "*batch n"],
) -> Complex[np.ndarray, "*batch n"]:
    """The minimiser of the majoriser at `point`; ``f`` there is no larger."""
    rotated = aligned_rows(rows, point)
    return hinge.complex_point(
        hinge.minimise_hinge(hinge.real_rows(rotated), targets, hinge.real_point(point))
    )


def aligned_rows(
    rows: Complex[np.ndarray, "*#batch K n"], point: Complex[np.ndarray, "*#batch n"]
) -> Complex[np.ndarray, "... K n"]:
    """Rows turned so that what arrives at `point` is real and positive."""
    return rows * back_rotations(arriving(rows, point))[..., None]


def back_rotations(values: Complex[np.ndarray, "*batch"]) -> Complex[np.ndarray, "*batch"]:
    """``e^{-j arg z}``, and 1 where z is zero."""
    size = np.abs(values)
    nonzero = size > 0
    return np.where(nonzero, values.conj(), 1.0) / np.where(nonzero, size, 1.0)
