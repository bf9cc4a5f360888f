r"""One step towards a robust beamformer: a convex model with the slope of the true error.

Device k's error depends on what arrives, :math:`|a_k x|`, and on its relative uncertainty
:math:`\rho_k = \|S_k^{1/2} x / a_k x\|^2`. In the first the error is a hinge, kept as it is with its phase
frozen; in the second it is followed by Gauss-Newton steps on :math:`S_k^{1/2} x / a_k x`. With
:math:`\beta_k` the best amplitude at the present point :math:`x_0` and
:math:`Q_k = I - x_0 a_k / (a_k x_0)` the model is

.. math:: \|x\|^2 + \sum_k \beta_k^2 \big\|S_k^{1/2} (x_0 + Q_k x)\big\|^2
          + \sum_k (1 + \rho_k) \Big(\frac{w_k}{1 + \rho_k} - \Re\{e^{-j\theta_k} a_k x\}\Big)_+^2

another support vector machine. :math:`Q_k x_0 = 0`: the length of x is free, which is what alternating
steps lack. For known channels this is the phase step of :mod:`optim.phase_step`.
"""

import numpy as np
from jaxtyping import Complex, Float, Inexact

from optim import hinge
from optim.robust_form import RobustForm, aligned_rows, best_amplitudes, device_errors

# Devices that arrive this much (in power) below their own uncertainty do not move the model.
AUDIBLE_SHARE = 1e-20
# Shares of the step and of the move before it that are tried at once; the model is no majoriser.
TRIALS = np.array(
    [(a, b) for a in (1.0, 2.0, 4.0) for b in (0.0, 0.5, 1.0, 2.0, 4.0)]
    + [(a, 0.0) for a in (0.5, 0.2, 0.05, 0.01)]
)


def model_minimiser(form: RobustForm, point: Complex[np.ndarray, "B n"]) -> Complex[np.ndarray, "B n"]:
    """Where the convex model around `point` is smallest."""
    rows, size = aligned_rows(form, point)
    spread = form.covariance.quadratic(point)
    power = size**2 + spread
    share = np.where(power > 0, size**2 / np.where(power > 0, power, 1.0), 1.0)  # 1 / (1 + rho)
    audible = share > AUDIBLE_SHARE
    growth = np.sqrt(np.where(audible, share, 1.0))
    metric, slope = _uncertainty_model(form, point, rows, size, spread)
    spectrum, modes = np.linalg.eigh(metric)
    # The metric is I plus a sum of squares; only rounding can put an eigenvalue below 1.
    whitener = modes / np.sqrt(np.maximum(spectrum, 1.0))[:, None, :]
    adjoint = np.swapaxes(whitener.conj(), -1, -2)
    centre = -_times(whitener, _times(adjoint, slope))
    hinge_rows = rows * (audible / growth)[..., None]
    targets = np.where(audible, form.targets * growth, 0.0) - _times(hinge_rows, centre).real
    step = hinge.minimise_hinge(
        hinge.real_rows(hinge_rows @ whitener), targets, np.zeros((len(point), 2 * point.shape[-1]))
    )
    return centre + _times(whitener, hinge.complex_point(step))


def _uncertainty_model(
    form: RobustForm,
    point: Complex[np.ndarray, "B n"],
    rows: Complex[np.ndarray, "B K n"],
    size: Float[np.ndarray, "B K"],
    spread: Float[np.ndarray, "B K"],
) -> tuple[Complex[np.ndarray, "B n n"], Complex[np.ndarray, "B n"]]:
    """Matrix M and vector l of ``x^H M x + 2 Re l^H x``: noise and the Gauss-Newton part."""
    amplitude = best_amplitudes(form.targets, size, spread)
    safe = np.where(size > 0, size, 1.0)
    pull = amplitude / safe
    applied = form.covariance.applied(point)  # B K n
    adjoint = np.swapaxes(rows.conj(), -1, -2)
    cross = np.swapaxes(applied * (amplitude * pull)[..., None], -1, -2) @ rows
    metric = np.eye(point.shape[-1]) + form.covariance.total(amplitude**2, point.shape[-1])
    metric = metric - cross - np.swapaxes(cross.conj(), -1, -2)
    metric = metric + adjoint @ (rows * (pull**2 * spread)[..., None])
    slope = (applied * (amplitude**2)[..., None]).sum(axis=-2)
    return metric, slope - _times(adjoint, amplitude * pull * spread)


def best_trial(
    form: RobustForm,
    point: Complex[np.ndarray, "B n"],
    stepped: Complex[np.ndarray, "B n"],
    last_move: Complex[np.ndarray, "B n"],
) -> Complex[np.ndarray, "B n"]:
    """The best point ``x + alpha (step - x) + beta (last move)`` of a small grid."""
    parts = np.stack([point, stepped - point, last_move], axis=1)  # B 3 n
    weights = np.column_stack([np.ones(len(TRIALS)), TRIALS])  # T 3
    trials = weights @ parts  # B T n
    ahead = np.moveaxis(trials, 1, 0)
    arriving = np.einsum("bktn,bpn->bpkt", form.rows, parts)
    combined = np.tensordot(weights, arriving, axes=(1, 1))  # T B K t
    size = np.linalg.norm(combined, axis=-1)
    lost = device_errors(form.targets, size, _combined_spread(form, parts, weights))
    errors = (np.abs(ahead) ** 2).sum(axis=-1) + lost.sum(axis=-1)  # T B
    return trials[np.arange(len(point)), np.argmin(errors, axis=0)]


def _combined_spread(
    form: RobustForm, parts: Complex[np.ndarray, "B P n"], weights: Float[np.ndarray, "T P"]
) -> Float[np.ndarray, "T B K"]:
    """``v_k`` of weighted sums of a few vectors, from the products between them."""
    applied = [form.covariance.applied(part) for part in np.moveaxis(parts, 1, 0)]
    products = np.einsum("bpn,qbkn->bkpq", parts.conj(), np.stack(applied)).real
    return np.maximum(np.einsum("tp,bkpq,tq->tbk", weights, products, weights), 0.0)


def _times(
    matrix: Complex[np.ndarray, "B r c"], vector: Inexact[np.ndarray, "B c"]
) -> Complex[np.ndarray, "B r"]:
    return (matrix @ vector[..., None])[..., 0]
