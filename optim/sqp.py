r"""Sequential quadratic programming on the reduced error, for many problems and starts at once.

Around the present point, with :math:`z_k = a_k x` and :math:`r_k` the real row along it, the reduced error is

.. math:: \|y\|^2 + \sum_k (w_k - r_k y)_+^2 - \sum_k \lambda_k \big( \|a_k y\|^2 - (r_k y)^2 \big),
          \qquad \lambda_k = (w_k / \|z_k\| - 1)_+

to second order: the first two terms alone are a majoriser (freeze the phases), the third is the curvature of
:math:`-\|a_k x\|` across :math:`z_k`. Its stationary point is found by pivoting on the active set, and a few
step lengths are tried. Where none leads down, the next step uses the majoriser, which always does. The phase
of x is free; the curvature along it is set to one.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from optim import hinge
from optim.normal_form import adjoint
from optim.options import SolverOptions
from optim.phase_step import arriving, magnitudes

STEP_LENGTHS = np.array([1.0, 0.6, 0.3, 0.1, 0.02, 1.6, 2.5, 4.0])
# A point is stationary when the gradient is this small relative to the point.
STATIONARY = 1e-8
# Products are updated along steps, and computed afresh every so many.
REFRESH = 8

Rows = Complex[np.ndarray, "B KT n"]
Points = Complex[np.ndarray, "B n"]


@dataclass(frozen=True, eq=False)
class Descent:
    """Where descents ended: points, errors, whether they came to rest, and all errors on the way."""

    points: Points
    errors: Float[np.ndarray, "B"]
    settled: Bool[np.ndarray, "B"]
    history: Float[np.ndarray, "steps B"]


@dataclass(frozen=True, eq=False)
class _State:
    """Descents that are still running."""

    place: Int[np.ndarray, "B"]
    rows: Rows
    targets: Float[np.ndarray, "B K"]
    point: Points
    received: Complex[np.ndarray, "B KT"]
    error: Float[np.ndarray, "B"]
    cautious: Bool[np.ndarray, "B"]
    idle: Int[np.ndarray, "B"]

    def kept(self, mask: Bool[np.ndarray, "B"]) -> "_State":
        return _State(*(getattr(self, field.name)[mask] for field in fields(self)))

    @property
    def device_antennas(self) -> int:
        return self.rows.shape[-2] // self.targets.shape[-1]

    @property
    def multipliers(self) -> Float[np.ndarray, "B K"]:
        size = magnitudes(self.received, self.device_antennas)
        heard = size > 0
        return np.where(heard, np.maximum(self.targets / np.where(heard, size, 1.0) - 1, 0.0), 0.0)

    def stationary(self, multipliers: Float[np.ndarray, "B K"]) -> Bool[np.ndarray, "B"]:
        """Whether ``x = sum_k lambda_k a_k^H z_k``."""
        pull = adjoint(self.rows) @ (self.per_row(multipliers) * self.received)[..., None]
        gradient = np.linalg.norm(self.point - pull[..., 0], axis=-1)
        return np.asarray(gradient <= STATIONARY * np.linalg.norm(self.point, axis=-1))

    def per_row(self, values: Shaped[np.ndarray, "B K"]) -> Shaped[np.ndarray, "B KT"]:
        """Each device's number, once per antenna."""
        return values if self.device_antennas == 1 else np.repeat(values, self.device_antennas, axis=-1)


def descend(rows: Rows, targets: Float[np.ndarray, "B K"], points: Points, options: SolverOptions) -> Descent:
    """Descend from every point until it is stationary, or two steps in a row fall less than `tolerance`."""
    received = arriving(rows, points)
    size = magnitudes(received, rows.shape[-2] // targets.shape[-1])
    errors = _error((np.abs(points) ** 2).sum(axis=-1), size, targets)
    points, settled, count = points.copy(), np.zeros(len(points), bool), len(points)
    state = _State(
        np.arange(count), rows, targets, points, received, errors, np.zeros(count, bool), np.zeros(count, int)
    )
    history = [errors]
    for step in range(1, options.max_iterations + 1):
        multipliers = state.multipliers
        done = state.stationary(multipliers) | (state.idle > 1)
        if done.any():
            settled[state.place[done]] = True
            state, multipliers = state.kept(~done), multipliers[~done]
            if not state.place.size:
                break
        state = _advanced(state, multipliers, options.tolerance)
        if step % REFRESH == 0:
            state = replace(state, received=arriving(state.rows, state.point))
        points[state.place] = state.point
        history.append(_updated(history[-1], state.place, state.error))
    return Descent(points, history[-1], settled, np.stack(history))


def _advanced(state: _State, multipliers: Float[np.ndarray, "B K"], tolerance: float) -> _State:
    """One step: model, its stationary point, the best of a few step lengths."""
    step = _model_step(state, multipliers)
    change = arriving(state.rows, step)
    lengths = STEP_LENGTHS[:, None]
    size = magnitudes(state.received[:, None] + lengths * change[:, None], state.device_antennas)
    along = (state.point.conj() * step).sum(axis=-1).real[:, None]
    squared = [(np.abs(v) ** 2).sum(axis=-1)[:, None] for v in (state.point, step)]
    noise = squared[0] + 2 * STEP_LENGTHS * along + STEP_LENGTHS**2 * squared[1]
    errors = _error(noise, size, state.targets[:, None])
    best, every = np.argmin(errors, axis=-1), np.arange(len(step))
    fall = state.error - errors[every, best]
    better = fall > 0
    length = np.where(better, STEP_LENGTHS[best], 0.0)[:, None]
    small = fall <= tolerance * state.error
    return replace(
        state,
        point=state.point + length * step,
        received=state.received + length * change,
        error=np.where(better, errors[every, best], state.error),
        cautious=~better,
        idle=np.where(small, state.idle + 1, 0),
    )


def _model_step(state: _State, multipliers: Float[np.ndarray, "B K"]) -> Points:
    """From the present point to the stationary point of the model (the majoriser where cautious)."""
    size = magnitudes(state.received, state.device_antennas)
    heard = size > 0
    turned = state.received.conj() / state.per_row(np.where(heard, size, 1.0))
    along = turned[..., None] * state.rows
    if state.device_antennas > 1:
        along = along.reshape(*size.shape, state.device_antennas, -1).sum(axis=-2)
    model_rows = hinge.real_rows(along)
    bold = np.where(state.cautious[:, None], 0.0, multipliers)
    curvature = _curvature(state, bold, model_rows)
    goal = hinge.minimise_model(curvature, model_rows, state.targets, size < state.targets, state.cautious)
    return hinge.complex_point(goal) - state.point


def _curvature(
    state: _State, multipliers: Float[np.ndarray, "B K"], model_rows: Float[np.ndarray, "B K d"]
) -> Float[np.ndarray, "B d d"]:
    r"""``I - sum_k lambda_k (A_k^T A_k - r_k r_k^T)`` in real coordinates, and 1 along the free phase."""
    half = state.point.shape[-1]
    pull = adjoint(state.rows) @ (state.per_row(multipliers)[..., None] * state.rows)
    curvature = np.swapaxes(model_rows, -1, -2) @ (multipliers[..., None] * model_rows)
    curvature[:, :half, :half] -= pull.real
    curvature[:, half:, half:] -= pull.real
    curvature[:, :half, half:] += pull.imag
    curvature[:, half:, :half] -= pull.imag
    norm = np.linalg.norm(state.point, axis=-1, keepdims=True)
    free = hinge.real_point(1j * state.point / np.where(norm > 0, norm, 1.0))
    curvature += np.where(state.cautious, 0.0, 1.0)[:, None, None] * (free[:, :, None] * free[:, None, :])
    diagonal = np.arange(2 * half)
    curvature[:, diagonal, diagonal] += 1.0
    return curvature


def _error(
    noise: Float[np.ndarray, "*batch"], size: Float[np.ndarray, "*batch K"], targets: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "*batch"]:
    shortfall = np.maximum(targets - size, 0.0)
    return np.asarray(noise + (shortfall**2).sum(axis=-1))


def _updated(
    values: Float[np.ndarray, "B"], places: Int[np.ndarray, "_"], fresh: Float[np.ndarray, "_"]
) -> Float[np.ndarray, "B"]:
    updated = values.copy()
    updated[places] = fresh
    return updated
