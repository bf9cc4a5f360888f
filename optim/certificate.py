r"""A rigorous lower bound from any multipliers: one eigenvalue and a sum.

Lifting :math:`x x^H` to :math:`X \succeq 0` makes the normal form convex, and its dual is explicit:

.. math:: f(x) \ \ge\ \sum_k w_k^2 \frac{\lambda_k}{1 + \lambda_k}
          \quad\text{for all } \lambda \ge 0,\ \sum_k \lambda_k a_k^H a_k \preceq I

(conjugate of the convex :math:`t \mapsto (w - \sqrt t)_+^2` at :math:`t = \|a_k x\|^2`). Any :math:`\lambda
\ge 0` becomes feasible by dividing it by the largest eigenvalue of its matrix, so no solver has to be
trusted. At a stationary point :math:`\lambda_k = (w_k / \|a_k x\| - 1)_+` has the eigenvalue 1 with
eigenvector x and the sum equals f(x): if 1 is also the largest eigenvalue, x is a proved global optimum.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.normal_form import NormalForm, adjoint
from optim.phase_step import arriving, magnitudes

# Eigenvalues and sums are exact only up to rounding; every certified number gives this much away.
ROUNDING_MARGIN = 1e-12


def dual_value(form: NormalForm, multipliers: Float[np.ndarray, "C B K"]) -> Float[np.ndarray, "C B"]:
    """Certified bound on the objective, in the problem's own units, for each of `C` sets of multipliers.

    Only the proportions of the multipliers matter: each set is scaled to the edge of the feasible set, where
    the value is largest. A device that cannot be heard adds its whole squared target.
    """
    usable = np.where((form.targets > 0) & (multipliers > 0), multipliers, 0.0)
    feasible = usable / spectral_radius(form.rows, usable)[..., None]
    error = (form.targets**2 * feasible / (1 + feasible)).sum(axis=-1)
    return form.objective(error) * (1 - ROUNDING_MARGIN)


def spectral_radius(
    rows: Complex[np.ndarray, "*batch KT n"], multipliers: Float[np.ndarray, "*c K"]
) -> Float[np.ndarray, "*c"]:
    """Largest eigenvalue of ``sum_k lambda_k a_k^H a_k``, rounded up; 1 where the matrix is zero."""
    roots = np.sqrt(multipliers)
    repeats = rows.shape[-2] // max(multipliers.shape[-1], 1)
    weighted = (np.repeat(roots, repeats, axis=-1) if repeats > 1 else roots)[..., None] * rows
    if not rows.shape[-1]:
        return np.ones(multipliers.shape[:-1])
    radius = np.linalg.eigvalsh(adjoint(weighted) @ weighted)[..., -1] * (1 + ROUNDING_MARGIN)
    return np.asarray(np.where(radius > 0, radius, 1.0))


def stationary_multipliers(form: NormalForm, point: Complex[np.ndarray, "B n"]) -> Float[np.ndarray, "B K"]:
    """``(w_k / |a_k x| - 1)_+``, the multipliers a stationary point stands for; 0 where nothing arrives."""
    size = magnitudes(arriving(form.rows, point), form.device_antennas)
    heard = size > 0
    return np.where(heard, np.maximum(form.targets / np.where(heard, size, 1.0) - 1, 0.0), 0.0)


def closed_form_multipliers(form: NormalForm) -> Float[np.ndarray, "2 B K"]:
    """Uniform multipliers and matched ones, ``1 / |a_k|^2``: optimal for orthogonal channels."""
    strength = (np.abs(form.rows) ** 2).reshape(*form.targets.shape, -1).sum(axis=-1)
    matched = np.where(strength > 0, 1 / np.where(strength > 0, strength, 1.0), 0.0)
    return np.stack([np.ones_like(matched), matched])
