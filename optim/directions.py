r"""Receive directions that need no optimiser, and the best beamformer along given ones.

Only devices that take part, with a target, a power and a channel, decide a direction. Behind a direction
:math:`f` scale and powers are exact: :func:`optim.threshold.best_scale` with :math:`g_k = |f^H h_k|^2`.
"""

import numpy as np
from jaxtyping import Complex, Float, Int, Shaped

from optim.normal_form import NormalForm, adjoint
from optim.phase_step import arriving
from optim.problem import AirCompProblem
from optim.threshold import best_scale

Directions = Complex[np.ndarray, "S B N"]


def best_along(form: NormalForm, directions: Directions) -> Complex[np.ndarray, "B N"]:
    """The best beamformer along any of the directions; zero where these are zero.

    A part outside the span of the channels is kept: it only adds noise, as it would in the receiver.
    """
    units = unit(directions)
    received = arriving(form.rows, (adjoint(form.basis) @ units[..., None])[..., 0])
    strengths = np.abs(received)
    scale = best_scale(strengths, form.targets)
    short = np.maximum(form.targets - strengths * scale[..., None], 0.0)
    chosen = np.argmin(scale**2 + (short**2).sum(axis=-1), axis=0)
    return pick(units, chosen) * (
        pick(scale[..., None], chosen) * (form.target_norm / form.deviation)[:, None]
    )


def unit(vectors: Complex[np.ndarray, "*batch N"]) -> Complex[np.ndarray, "*batch N"]:
    """Vectors of length 1; zeros stay zeros."""
    size = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
    vectors = vectors / np.where(size > 0, size, 1.0)  # squares of 1e-200 would leave the floats
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1.0)


def pick(
    candidates: Shaped[np.ndarray, "S B *rest"], chosen: Int[np.ndarray, "B"]
) -> Shaped[np.ndarray, "B *rest"]:
    """Of every problem in the batch its chosen candidate."""
    return candidates[chosen, np.arange(len(chosen))]


def random_direction(form: NormalForm, rng: np.random.Generator) -> Directions:
    """Complex Gaussian, the same for all problems of a batch in their canonical coordinates."""
    num_antennas, dimension = form.basis.shape[-2:]
    draw = rng.standard_normal((num_antennas, 2)) @ np.array([1, 1j])
    inside = form.basis @ draw[:dimension]
    complement = np.linalg.qr(form.basis, mode="complete")[0][..., dimension:]
    return (inside + complement @ draw[dimension:])[None]


def weighted_sum(problem: AirCompProblem) -> Directions:
    r"""Matched to the wanted sum: :math:`f \propto \sum_k \omega_k h_k`."""
    channel = _participants(problem)
    targets = problem.target_gains
    share = targets / np.maximum(targets.max(axis=-1, keepdims=True), np.finfo(float).tiny)
    return (share[:, None, :] @ channel)[None, :, 0]


def leading_eigenvector(problem: AirCompProblem) -> Directions:
    r"""Where most power arrives: the leading eigenvector of :math:`\sum_k h_k h_k^H`."""
    channel = _participants(problem)
    modes = np.linalg.svd(channel, full_matrices=False)[2]
    return modes[None, :, 0] * (channel != 0).any(axis=(1, 2))[:, None]


def weakest_device(problem: AirCompProblem) -> Directions:
    r"""Maximum ratio combining of the device with the least :math:`P_k \|h_k\|^2 / \omega_k^2`."""
    channel = _participants(problem)
    reach = np.sqrt(problem.power_budget_w) * np.linalg.norm(channel, axis=-1)
    needed = reach > 0
    ease = np.where(needed, reach / np.where(needed, problem.target_gains, 1.0), np.inf)
    return pick(np.swapaxes(channel, 0, 1), np.argmin(ease, axis=-1))[None]


def single_antennas(problem: AirCompProblem) -> Directions:
    """Every antenna alone."""
    antennas = problem.num_antennas
    every = np.eye(antennas, dtype=np.complex128)[:, None]
    return np.broadcast_to(every, (antennas, len(problem.channel), antennas))


def _participants(problem: AirCompProblem) -> Complex[np.ndarray, "B K N"]:
    """Channels relative to the strongest entry; zero for a device without target or power."""
    taking_part = (problem.target_gains > 0) & (problem.power_budget_w > 0)
    channel = np.where(taking_part[..., None], problem.channel, 0.0)
    size: Float[np.ndarray, "B 1 1"] = np.abs(channel).max(axis=(1, 2), keepdims=True, initial=0.0)
    return channel / np.where(size > 0, size, 1.0)
