r"""Descent by gradients alone, for problems so large that second-order steps cost too much.

Two products with the rows give the reduced error and its gradient :math:`x - \sum_k \lambda_k a_k^H z_k`; a
limited-memory quasi-Newton method does the rest, on the logarithm of the error, since errors span decades.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Complex, Float

from optim import hinge
from optim.options import SolverOptions
from optim.phase_step import magnitudes
from optim.sqp import Descent

MEMORY = 20


def descend(
    rows: Complex[np.ndarray, "B KT n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    options: SolverOptions,
) -> Descent:
    """Descend from every point to its end, in single precision and then in double."""
    coarse = approach(rows, targets, points, options)
    left = replace(options, max_iterations=max(1, options.max_iterations + 1 - len(coarse.history)))
    fine = _side_by_side([_descend_one(*one, left) for one in zip(rows, targets, coarse.points, strict=True)])
    # Errors on the way are those of single precision; none is kept that double precision does not confirm.
    before = np.maximum(coarse.history[:-1], fine.history[0])
    return replace(fine, history=np.concatenate([before, fine.history]))


def approach(
    rows: Complex[np.ndarray, "B KT n"],
    targets: Float[np.ndarray, "B K"],
    points: Complex[np.ndarray, "B n"],
    options: SolverOptions,
) -> Descent:
    """Descend in single precision: a step is two products with the rows, which wait for memory."""
    problems = zip(rows, targets, points, strict=True)
    return _side_by_side(
        [_descend_one(a.astype(np.complex64), w.astype(np.float32), x, options) for a, w, x in problems]
    )


def _side_by_side(parts: list[Descent]) -> Descent:
    """Descents of single problems as those of a batch."""
    length = max(len(part.history) for part in parts)
    return Descent(
        points=np.concatenate([part.points for part in parts]),
        errors=np.concatenate([part.errors for part in parts]),
        settled=np.concatenate([part.settled for part in parts]),
        history=np.concatenate(
            [np.pad(part.history, ((0, length - len(part.history)), (0, 0)), mode="edge") for part in parts],
            axis=1,
        ),
    )


def _descend_one(
    rows: Complex[np.ndarray, "KT n"],
    targets: Float[np.ndarray, "K"],
    point: Complex[np.ndarray, "n"],
    options: SolverOptions,
) -> Descent:
    from scipy.optimize import minimize

    def objective(real: Float[np.ndarray, "d"]) -> tuple[float, Float[np.ndarray, "d"]]:
        error, gradient = error_and_gradient(rows, targets, hinge.complex_point(real))
        return float(np.log(error)), 2 * hinge.real_point(gradient) / error

    history = [error_and_gradient(rows, targets, point)[0]]
    ended = minimize(
        objective,
        hinge.real_point(point),
        method="L-BFGS-B",
        jac=True,
        callback=lambda intermediate_result: history.append(float(np.exp(intermediate_result.fun))),
        options={
            "maxiter": options.max_iterations,
            "maxcor": MEMORY,
            "ftol": options.tolerance,
            "gtol": 1e-9,
        },
    )
    reached = hinge.complex_point(ended.x)
    error = error_and_gradient(rows, targets, reached)[0]
    return Descent(
        points=reached[None],
        errors=np.array([error]),
        settled=np.array([ended.status == 0]),
        history=np.array([*history[:-1], error])[:, None],
    )


def error_and_gradient(
    rows: Complex[np.ndarray, "KT n"], targets: Float[np.ndarray, "K"], point: Complex[np.ndarray, "n"]
) -> tuple[float, Complex[np.ndarray, "n"]]:
    """The reduced error and half its gradient."""
    received = rows @ point.astype(rows.dtype)
    device_antennas = len(rows) // len(targets)
    size = magnitudes(received, device_antennas)
    shortfall = np.maximum(targets - size, 0.0)
    multipliers = np.repeat(shortfall / np.where(size > 0, size, 1.0), device_antennas)
    pull = ((multipliers * received).conj() @ rows).conj()  # without a conjugate copy of the rows
    return float((np.abs(point) ** 2).sum() + (shortfall**2).sum()), point - pull
