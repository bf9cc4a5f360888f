"""The error of an over-the-air sum, and the best half of a design when the other half is given."""

import numpy as np
from jaxtyping import Complex, Float, Shaped

from optim.design import TransceiverDesign
from optim.linear import solve_ridge
from optim.problem import AirCompProblem


def effective_gains(problem: AirCompProblem, design: TransceiverDesign) -> Complex[np.ndarray, "*batch K"]:
    """End-to-end gain of each device: ``c_k = m^H h_k b_k``."""
    return beam_gains(problem, design.receive_beamformer) * design.transmit_scalars


def beam_gains(
    problem: AirCompProblem, receive_beamformer: Complex[np.ndarray, "*batch N"]
) -> Complex[np.ndarray, "*batch K"]:
    """Gain of each channel behind the beamformer: ``g_k = m^H h_k``."""
    return (problem.channel @ receive_beamformer.conj()[..., None])[..., 0]


def misalignment(problem: AirCompProblem, design: TransceiverDesign) -> Float[np.ndarray, "*batch"]:
    """Signal part of the error: ``sum_k |c_k - omega_k|^2``."""
    return np.asarray((np.abs(effective_gains(problem, design) - problem.target_gains) ** 2).sum(axis=-1))


def noise(problem: AirCompProblem, design: TransceiverDesign) -> Float[np.ndarray, "*batch"]:
    """Amplified receiver noise: ``sigma^2 |m|^2``."""
    # Noise first goes into m: |m|^2 alone leaves the floats when path gains are 1e-300.
    amplitude = np.sqrt(problem.noise_power_w)[..., None] * np.abs(design.receive_beamformer)
    return np.asarray((amplitude**2).sum(axis=-1))


def aggregation_mse(problem: AirCompProblem, design: TransceiverDesign) -> Float[np.ndarray, "*batch"]:
    r"""Mean squared error of the over-the-air sum, per complex symbol and per real entry.

    .. math:: \sum_k |m^H h_k b_k - \omega_k|^2 + \sigma^2 \|m\|^2

    The first term is signal misalignment, the second amplified noise. Symbols are zero-mean,
    of unit power and uncorrelated across devices; :func:`correlated_mse` drops the last assumption.
    """
    return np.asarray(misalignment(problem, design) + noise(problem, design))


def correlated_mse(
    problem: AirCompProblem, design: TransceiverDesign, correlation: Shaped[np.ndarray, "*batch K K"]
) -> Float[np.ndarray, "*batch"]:
    r"""Mean squared error when the devices' symbols are correlated.

    .. math:: \delta^H \Gamma \delta + \sigma^2 \|m\|^2, \qquad \delta_k = m^H h_k b_k - \omega_k

    `correlation` is :math:`\Gamma_{kj} = x_k^T x_j / D` of the normalised payloads. It is exact, in
    expectation over the receiver noise, for designs whose gains are real (all that `optim` returns).
    """
    delta = effective_gains(problem, design) - problem.target_gains
    quadratic = (delta.conj()[..., None, :] @ correlation @ delta[..., :, None])[..., 0, 0]
    return np.asarray(quadratic.real + noise(problem, design))


def best_transmit_scalars(
    problem: AirCompProblem, receive_beamformer: Complex[np.ndarray, "*batch N"]
) -> Complex[np.ndarray, "*batch K"]:
    r"""Transmit scalars that minimise the error behind a given beamformer.

    .. math:: b_k = \min\{\sqrt{P_k},\ \omega_k / |g_k|\}\, e^{-j \arg g_k}, \qquad g_k = m^H h_k

    Devices are independent once m is fixed: each aligns its phase, then inverts or sends at full power.
    """
    gains = beam_gains(problem, receive_beamformer)
    return inverting_scalars(gains, problem.target_gains, problem.power_budget_w)


def inverting_scalars(
    gains: Complex[np.ndarray, "*batch K"],
    targets: Float[np.ndarray, "*batch K"],
    power_w: Float[np.ndarray, "*batch K"],
) -> Complex[np.ndarray, "*batch K"]:
    """Invert given gains as far as the power reaches; silence where nothing arrives."""
    strength = np.abs(gains)
    heard = strength > 0
    safe = np.where(heard, strength, 1.0)
    amplitude = np.minimum(np.sqrt(power_w), targets / safe)
    return np.where(heard, amplitude * gains.conj() / safe, 0.0)


def best_receive_beamformer(
    problem: AirCompProblem, transmit_scalars: Complex[np.ndarray, "*batch K"]
) -> Complex[np.ndarray, "*batch N"]:
    r"""Linear MMSE beamformer for given transmit scalars.

    .. math:: m = (A A^H + \sigma^2 I)^{-1} A \omega, \qquad A = [h_1 b_1, \dots, h_K b_K]

    Solved whitened, in the smaller of K and N dimensions.
    """
    deviation = np.sqrt(problem.noise_power_w)[..., None]
    arriving = problem.channel * (transmit_scalars / deviation)[..., None]  # K N: rows b_k h_k / sigma
    columns = np.swapaxes(arriving, -1, -2)  # N K: A / sigma
    adjoint = arriving.conj()
    num_devices, num_antennas = problem.channel.shape[-2:]
    targets = problem.target_gains.astype(np.complex128)[..., None]
    if num_devices < num_antennas:
        # (A A^H + I)^-1 A = A (A^H A + I)^-1
        m = columns @ solve_ridge(adjoint @ columns + np.eye(num_devices), targets)
    else:
        m = solve_ridge(columns @ adjoint + np.eye(num_antennas), columns @ targets)
    return m[..., 0] / deviation
