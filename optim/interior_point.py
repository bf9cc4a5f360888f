r"""The tightest multipliers: a primal-dual interior-point method for the lifted problem and its dual.

.. math:: \min_{X \succeq 0}\ \mathrm{tr} X + \sum_k (w_k - \sqrt{q_k})_+^2, \qquad
          q_k = \mathrm{tr}(a_k X a_k^H), \\
          \max_{\lambda \ge 0}\ \sum_k w_k^2 \frac{\lambda_k}{1 + \lambda_k}, \qquad
          S = I - \sum_k \lambda_k a_k^H a_k \succeq 0

Newton's method on :math:`X S = \mu I`, :math:`\lambda_k v_k = \mu` and :math:`w_k^2 / (1 + \lambda_k)^2 =
q_k - v_k`, with the second-order terms of an affine step; one K x K system per step. X only needs to stay
positive semidefinite, so both objectives are valid at every step and their distance says when to stop. A
whole batch advances together, and finished problems drop out.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim.normal_form import adjoint

MAX_STEPS = 60
# The part of the way to the boundary of the cone that a step goes, and the part of mu that it aims at.
TO_BOUNDARY = 0.9
CENTRING = 0.1
# Entries of K x K matrices per chunk: what a step needs stays in the cache.
CHUNK_ENTRIES = 60_000

Rows = Complex[np.ndarray, "B KT n"]
PerDevice = Float[np.ndarray, "B K"]
Square = Complex[np.ndarray, "B n n"]


def tight_multipliers(rows: Rows, targets: PerDevice, tolerance: float) -> tuple[PerDevice, Square]:
    """Multipliers whose dual value is within `tolerance` (relative) of the relaxation's, and its X.

    `rows` and `targets` as in :class:`~optim.normal_form.NormalForm`; a row vanishes only where its target
    does.
    """
    chunk = max(1, CHUNK_ENTRIES // max(targets.shape[-1] ** 2, 1))
    multipliers, lift = (
        np.zeros(targets.shape),
        np.zeros((len(rows), *rows.shape[-1:] * 2), dtype=np.complex128),
    )
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        if targets[part].any():
            multipliers[part], lift[part] = _solve_chunk(rows[part], targets[part], tolerance)
    return multipliers, lift


@dataclass(eq=False)
class _State:
    """Iterates of the problems that are still running."""

    rows: Rows
    targets: PerDevice
    multipliers: PerDevice  # lambda
    slack: PerDevice  # v
    lift: Square  # X

    def kept(self, mask: Bool[np.ndarray, "B"]) -> "_State":
        return _State(*(getattr(self, field.name)[mask] for field in fields(self)))


def _solve_chunk(rows: Rows, targets: PerDevice, tolerance: float) -> tuple[PerDevice, Square]:
    state = _start(rows, targets)
    multipliers, lift = state.multipliers.copy(), state.lift.copy()
    running = np.arange(len(rows))
    for _ in range(MAX_STEPS):
        lifted_rows = state.rows @ state.lift
        reached = _quadratics(lifted_rows, state.rows, state.targets)
        open_ = _open(state, reached, tolerance)
        if not open_.all():
            multipliers[running[~open_]], lift[running[~open_]] = (
                state.multipliers[~open_],
                state.lift[~open_],
            )
            running, state = running[open_], state.kept(open_)
            if not running.size:
                return multipliers, lift
            lifted_rows, reached = lifted_rows[open_], reached[open_]
        state = _advanced(state, lifted_rows, reached)
    multipliers[running], lift[running] = state.multipliers, state.lift
    return multipliers, lift


def _start(rows: Rows, targets: PerDevice) -> _State:
    """Matched multipliers, half-way to the boundary, and the X and v that are central for them."""
    strength = _summed(np.abs(rows) ** 2, targets).sum(axis=-1)
    heard = strength > 0
    multipliers = np.where(heard, 1 / np.where(heard, strength, 1.0), 1.0)
    covariance = adjoint(rows) @ _per_row(multipliers, rows)
    radius = np.linalg.eigvalsh(covariance)[..., -1]
    multipliers *= 0.5 / np.where(radius > 0, radius, 1.0)[:, None]
    inverse = np.linalg.inv(np.eye(rows.shape[-1]) - adjoint(rows) @ _per_row(multipliers, rows))
    wanted = multipliers * (targets / (1 + multipliers)) ** 2
    reached = multipliers * _quadratics(rows @ inverse, rows, targets)
    level = wanted.sum(axis=-1) / np.where(heard.any(axis=-1), reached.sum(axis=-1), 1.0)
    level = np.where(level > 0, level, 1.0)
    return _State(rows, targets, multipliers, level[:, None] / multipliers, level[:, None, None] * inverse)


def _open(state: _State, reached: PerDevice, tolerance: float) -> Bool[np.ndarray, "B"]:
    """Problems whose two objectives are still further apart than asked; `reached` is q."""
    shortfall = np.maximum(state.targets - np.sqrt(np.maximum(reached, 0.0)), 0.0)
    primal = np.trace(state.lift, axis1=-2, axis2=-1).real + (shortfall**2).sum(axis=-1)
    dual = (state.targets**2 * state.multipliers / (1 + state.multipliers)).sum(axis=-1)
    return np.asarray(primal - dual > tolerance * dual)


def _advanced(state: _State, lifted_rows: Rows, reached: PerDevice) -> _State:
    """One step with the second-order correction of the affine one."""
    rows, multipliers, slack, lift = state.rows, state.multipliers, state.slack, state.lift
    columns = adjoint(rows)
    factor = np.linalg.inv(np.linalg.cholesky(np.eye(rows.shape[-1]) - columns @ _per_row(multipliers, rows)))
    inverse = adjoint(factor) @ factor  # S^-1
    inverse_rows = rows @ inverse
    wanted, heard = (state.targets / (1 + multipliers)) ** 2, state.targets > 0
    system = _coupling(lifted_rows @ columns, inverse_rows @ columns, multipliers)
    diagonal = np.arange(multipliers.shape[-1])
    system[:, diagonal, diagonal] += multipliers**2 * 2 * wanted / (1 + multipliers) + multipliers * slack

    def newton(right: PerDevice) -> PerDevice:
        step = np.linalg.solve(system, (multipliers * right)[..., None])[..., 0] * multipliers
        return np.where(heard, step, 0.0)

    affine = newton(wanted)
    affine_dual = -(columns @ _per_row(affine, rows))  # dS
    affine_lift = -lift - _hermitian(lift @ affine_dual @ inverse)
    affine_slack = -slack - slack / multipliers * affine
    second = _hermitian(affine_lift @ affine_dual @ inverse)
    aim = CENTRING * _complementarity(state, reached)[:, None]
    inverse_quadratics = _quadratics(inverse_rows, rows, multipliers)
    bend = affine * affine_slack / multipliers
    right = wanted - aim * inverse_quadratics + _quadratics(rows @ second, rows, multipliers)
    step = newton(right + aim / multipliers - bend)
    dual_step = -(columns @ _per_row(step, rows))
    lift_step = aim[..., None] * inverse - lift - _hermitian(lift @ dual_step @ inverse) - second
    slack_step = np.where(heard, aim / multipliers - slack - slack / multipliers * step - bend, 0.0)
    dual_length = np.minimum(_to_zero(multipliers, step), _to_singular(factor, dual_step))[:, None]
    lift_factor = np.linalg.inv(np.linalg.cholesky(lift))
    lift_length = np.minimum(_to_zero(slack, slack_step), _to_singular(lift_factor, lift_step))[:, None]
    return _State(
        rows,
        state.targets,
        multipliers + dual_length * step,
        slack + lift_length * slack_step,
        _hermitian(lift + lift_length[..., None] * lift_step),
    )


def _coupling(
    lifted: Complex[np.ndarray, "B KT KT"], inverse: Complex[np.ndarray, "B KT KT"], multipliers: PerDevice
) -> Float[np.ndarray, "B K K"]:
    """``Re(A X A^H o conj(A S^-1 A^H))``, summed over pairs of devices, scaled by both lambdas."""
    coupling = lifted.real * inverse.real + lifted.imag * inverse.imag
    num_devices = multipliers.shape[-1]
    if num_devices < coupling.shape[-1]:
        blocks = coupling.reshape(
            len(coupling), num_devices, -1, num_devices, coupling.shape[-1] // num_devices
        )
        coupling = blocks.sum(axis=(2, 4))
    coupling *= multipliers[:, :, None]
    coupling *= multipliers[:, None, :]
    return coupling


def _complementarity(state: _State, reached: PerDevice) -> Float[np.ndarray, "B"]:
    """The present mu: ``(tr X S + lambda^T v) / (n + K)``."""
    # tr X S = tr X - sum_k lambda_k q_k. Devices that only pad a batch have no share in it.
    heard = state.targets > 0
    trace = np.trace(state.lift, axis1=-2, axis2=-1).real
    products = trace + np.where(heard, state.multipliers * (state.slack - reached), 0.0).sum(axis=-1)
    return products / (state.lift.shape[-1] + heard.sum(axis=-1))


def _per_row(values: PerDevice, rows: Rows) -> Rows:
    """Each row times its device's number."""
    repeats = rows.shape[-2] // values.shape[-1]
    return (values if repeats == 1 else np.repeat(values, repeats, axis=-1))[..., None] * rows


def _summed(entries: Float[np.ndarray, "B KT n"], like: PerDevice) -> Float[np.ndarray, "B K Tn"]:
    """All entries of a device's rows side by side."""
    return entries.reshape(*like.shape, -1)


def _quadratics(products: Rows, rows: Rows, like: PerDevice) -> PerDevice:
    """``tr(a_k M a_k^H)`` from ``products = A M``."""
    terms = products.real * rows.real + products.imag * rows.imag
    return _summed(terms, like).sum(axis=-1)


def _hermitian(matrix: Square) -> Square:
    return 0.5 * (matrix + adjoint(matrix))


def _to_zero(values: PerDevice, step: PerDevice) -> Float[np.ndarray, "B"]:
    """Step length that keeps every number positive."""
    falling = step < 0
    reach = np.where(falling, values / np.where(falling, -step, 1.0), np.inf).min(axis=-1, initial=np.inf)
    return np.minimum(1.0, TO_BOUNDARY * reach)


def _to_singular(inverse_factor: Square, step: Square) -> Float[np.ndarray, "B"]:
    """Step length that keeps ``M + length * step`` positive definite, with ``M^-1 = F^H F``."""
    lowest = np.linalg.eigvalsh(inverse_factor @ step @ adjoint(inverse_factor))[..., 0]
    falling = lowest < 0
    return np.where(falling, np.minimum(1.0, TO_BOUNDARY / np.where(falling, -lowest, 1.0)), 1.0)
