r"""A certified bound for uncertain channels: the dual at a few levels of uncertainty, checked at all of them.

For fixed multipliers the bound of :mod:`optim.robust_dual` is concave in the level
:math:`\tau = x^H R x` (each :math:`\psi_k` is the least of functions linear in :math:`v`), hence on an
interval never below its smaller end. So

.. math:: f^\star \ge \min_i \max_j \min\{\mathrm{LB}_j(\tau_i), \mathrm{LB}_j(\tau_{i+1})\}

over a grid of levels and any sets of multipliers, however they were found. Levels above
:math:`\lambda_{\max}(R) f(x)` need no grid: noise alone exceeds :math:`f(x)` there.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.certificate import ROUNDING_MARGIN
from optim.csi import ErrorCovariance
from optim.robust_dual import LevelDual, barrier_multipliers, conjugate, weighted_gram
from optim.robust_form import RobustForm, aligned_rows, best_amplitudes, reduced_error

GRID_DECADES = 8.0
COARSE_LEVELS, FINE_LEVELS = 128, 96  # over all decades, and between 0.4 and 2.5 times the design's level
# Levels at which multipliers are optimised, relative to the design's; then once more about the worst one.
FIRST_LEVELS = np.array([0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.1, 1.4, 2.5, 8.0])
REFINED_LEVELS = np.array([0.9, 1.0, 1.1])
REFINEMENTS = 4
# Newton steps on the multipliers cost the cube of this number.
MOST_ROWS = 400
CHUNK_ENTRIES = 1_000_000
# Below this share of a covariance's largest eigenvalue a direction counts as certain.
RANK_TOLERANCE = 1e-10


def level_bound(
    form: RobustForm, point: Complex[np.ndarray, "B n"], tolerance: float
) -> Float[np.ndarray, "B"]:
    """Certified bound on ``f``, to about `tolerance` the best of its kind; `point` is a good design.

    With an infinite tolerance, and beyond `MOST_ROWS` device antennas in all, from the design alone.
    """
    num_rows = form.rows.shape[1] * form.rows.shape[2]
    if num_rows > MOST_ROWS:
        tolerance = np.inf
    chunk = max(1, CHUNK_ENTRIES // (len(FIRST_LEVELS) * (num_rows + 1) ** 2))
    parts = np.split(np.arange(len(point)), np.arange(chunk, len(point), chunk))
    return np.concatenate([_bounded(form.taken(part), point[part], tolerance) for part in parts])


def _bounded(form: RobustForm, point: Complex[np.ndarray, "B n"], tolerance: float) -> Float[np.ndarray, "B"]:
    dual = level_dual(form)
    error = reduced_error(form, point)
    here = _quadratic(dual.metric, point)[:, None]
    grid = _level_grid(dual, error, here)
    device, mu = _stationary(form, dual, point)
    envelope = _interval_bounds(dual, device[:, None], mu[:, None], here, grid)  # B G
    bound, levels = envelope.min(axis=-1), here * FIRST_LEVELS
    for _ in range(1 + REFINEMENTS if np.isfinite(tolerance) else 0):
        levels = np.clip(levels, grid[:, 1:2], grid[:, -1:])
        device, mu = barrier_multipliers(dual.repeated(levels.shape[1]), levels.reshape(-1), tolerance)
        device, mu = device.reshape(*levels.shape, -1), mu.reshape(levels.shape)
        envelope = np.maximum(envelope, _interval_bounds(dual, device, mu, levels, grid))
        raised = envelope.min(axis=-1) - bound
        bound = bound + raised
        if (raised <= tolerance * bound).all():
            break
        worst = np.argmin(envelope, axis=-1)[:, None]
        middle = 0.5 * (np.take_along_axis(grid, worst, 1) + np.take_along_axis(grid, worst + 1, 1))
        levels = middle * REFINED_LEVELS
    return np.minimum(bound, error) * (1 - ROUNDING_MARGIN)


def level_dual(form: RobustForm) -> LevelDual:
    """The common metric R, of trace n, and the largest ``s_k`` with ``s_k R`` below each covariance."""
    batch, _, _, size = form.rows.shape
    metric, spread = _common_part(form.covariance, size)
    full = np.broadcast_to(metric, (batch, size, size)).astype(np.complex128)
    return LevelDual(form.rows, form.targets, spread, full)


def _common_part(
    covariance: ErrorCovariance, size: int
) -> tuple[Complex[np.ndarray, "..."] | Float[np.ndarray, "..."], Float[np.ndarray, "B K"]]:
    if covariance.shape is None:
        return np.eye(size), covariance.scale
    traces = np.trace(covariance.shape, axis1=-2, axis2=-1).real / size
    unit = covariance.shape / np.where(traces > 0, traces, 1.0)[..., None, None]
    if covariance.shape.ndim == 2:
        return unit, covariance.scale * traces
    metric = unit.mean(axis=-3)
    spectrum, modes = np.linalg.eigh(metric)
    kept = spectrum > RANK_TOLERANCE * spectrum[..., -1:]
    whitener = modes * np.where(kept, 1 / np.sqrt(np.where(kept, spectrum, 1.0)), 0.0)[..., None, :]
    adjoint = np.swapaxes(whitener.conj(), -1, -2)
    inside = adjoint[..., None, :, :] @ unit @ whitener[..., None, :, :]
    # Directions outside the range of R must not count as the smallest eigenvalue.
    outside = np.where(kept, 0.0, size)[..., None, :, None] * np.eye(size)
    least = np.linalg.eigvalsh(inside + outside)[..., 0]
    return metric, covariance.scale * traces * np.maximum(least * (1 - RANK_TOLERANCE) - RANK_TOLERANCE, 0.0)


def _level_grid(
    dual: LevelDual, error: Float[np.ndarray, "B"], here: Float[np.ndarray, "B 1"]
) -> Float[np.ndarray, "B G"]:
    """Zero, and levels up to the highest that a better design can have, closer together near the design's."""
    highest = np.linalg.eigvalsh(dual.metric)[:, -1:] * error[:, None] * (1 + ROUNDING_MARGIN)
    coarse = highest * 10.0 ** np.linspace(-GRID_DECADES, 0.0, COARSE_LEVELS)
    fine = np.minimum(here * np.geomspace(0.4, 2.5, FINE_LEVELS), highest)
    return np.sort(np.concatenate([np.zeros_like(highest), coarse, fine], axis=1), axis=1)


def _stationary(
    form: RobustForm, dual: LevelDual, point: Complex[np.ndarray, "B n"]
) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B"]]:
    """The multipliers that a stationary point stands for: minus the slopes of its devices' errors."""
    _, size = aligned_rows(form, point)
    amplitude = best_amplitudes(form.targets, size, form.covariance.quadratic(point))
    heard = size > 0
    device = amplitude * form.targets / np.where(heard, size, 1.0) - amplitude**2
    return np.where(heard, np.maximum(device, 0.0), 0.0), -(amplitude**2 * dual.spread).sum(axis=-1)


def _interval_bounds(
    dual: LevelDual,
    device: Float[np.ndarray, "B C K"],
    mu: Float[np.ndarray, "B C"],
    levels: Float[np.ndarray, "B C"],
    grid: Float[np.ndarray, "B G"],
) -> Float[np.ndarray, "B G-1"]:
    r"""The best bound on each interval of levels that sets of multipliers give once they are feasible.

    Above the level that it was made for, a set also serves divided by the ratio of the levels: where devices
    invert their channels, its value then stays the same.
    """
    device, mu = _feasible(dual, device, mu)
    num_intervals = grid.shape[-1] - 1
    some = max(1, CHUNK_ENTRIES // max(device.size, 1))
    parts = [grid[:, begin : begin + some + 1] for begin in range(0, num_intervals, some)]
    return np.concatenate([_best_between(dual, device, mu, levels, part) for part in parts], axis=-1)


def _best_between(
    dual: LevelDual,
    device: Float[np.ndarray, "B C K"],
    mu: Float[np.ndarray, "B C"],
    levels: Float[np.ndarray, "B C"],
    grid: Float[np.ndarray, "B G"],
) -> Float[np.ndarray, "B G-1"]:
    ends = _values_at(dual, device[:, None], mu[:, None], grid)  # B G C
    low, high = grid[:, :-1], grid[:, 1:]
    above = low[..., None] > levels[:, None]
    ratio = np.where(above, levels[:, None] / np.where(above, low[..., None], 1.0), 1.0)
    scaled, scaled_mu = device[:, None] * ratio[..., None], mu[:, None] * ratio
    both = [_values_at(dual, scaled, scaled_mu, end) for end in (low, high)]
    values = np.maximum(np.minimum(ends[:, :-1], ends[:, 1:]), np.minimum(*both))
    return np.asarray(values.max(axis=-1))


def _feasible(
    dual: LevelDual, device: Float[np.ndarray, "B C K"], mu: Float[np.ndarray, "B C"]
) -> tuple[Float[np.ndarray, "B C K"], Float[np.ndarray, "B C"]]:
    """Divided by the largest eigenvalue of their matrix, rounded up, where that exceeds 1."""
    device = np.where(dual.wanted[:, None], device, 0.0)
    gram = weighted_gram(dual.rows[:, None], device)
    added = mu[..., None, None] * dual.metric[:, None]
    size = sum(np.trace(np.abs(part), axis1=-2, axis2=-1) for part in (gram, added))
    radius = np.maximum(np.linalg.eigvalsh(gram + added)[..., -1] + ROUNDING_MARGIN * size, 1.0)
    return device / radius[..., None], mu / radius


def _values_at(
    dual: LevelDual,
    device: Float[np.ndarray, "B #G C K"],
    mu: Float[np.ndarray, "B #G C"],
    level: Float[np.ndarray, "B G"],
) -> Float[np.ndarray, "B G C"]:
    """Dual values at levels, less their rounding; an unheard device adds its squared target."""
    targets, wanted = dual.targets[:, None, None], dual.wanted[:, None, None]
    value = conjugate(device, targets, dual.spread[:, None, None] * level[..., None, None])
    summed = np.where(wanted, value, targets**2).sum(axis=-1)
    product = mu * level[..., None]
    return summed + product - ROUNDING_MARGIN * (summed + np.abs(product))


def _quadratic(
    metric: Complex[np.ndarray, "B n n"], point: Complex[np.ndarray, "B n"]
) -> Float[np.ndarray, "B"]:
    return (point.conj() * (metric @ point[..., None])[..., 0]).sum(axis=-1).real
