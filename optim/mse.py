"""The error of an over-the-air sum, and the best half of a design when the other half is given."""

import numpy as np
from jaxtyping import Complex, Float, Inexact, Shaped

from optim.design import TransceiverDesign
from optim.linear import solve_ridge
from optim.problem import AirCompProblem

Real = Float[np.ndarray, "*batch"]


def effective_gains(problem: AirCompProblem, design: TransceiverDesign) -> Complex[np.ndarray, "*batch K"]:
    """End-to-end gain of each device: ``c_k = m^H h_k b_k``."""
    gains = beam_gains(problem, design.receive_beamformer)
    return np.asarray((gains * design.transmit_vectors).sum(axis=-1))


def beam_gains(
    problem: AirCompProblem, receive_beamformer: Complex[np.ndarray, "*batch N"]
) -> Complex[np.ndarray, "*batch K T"]:
    """Gain of each device antenna behind the beamformer: ``g_k = m^H h_k``."""
    conjugate = receive_beamformer.conj()
    if problem.device_antennas == 1:
        return problem.channel @ conjugate[..., None]
    return (conjugate[..., None, None, :] @ problem.channel)[..., 0, :]


def misalignment(problem: AirCompProblem, design: TransceiverDesign) -> Real:
    """Signal part of the error: ``sum_k |c_k - omega_k|^2``."""
    return np.asarray((np.abs(effective_gains(problem, design) - problem.target_gains) ** 2).sum(axis=-1))


def csi_error(problem: AirCompProblem, design: TransceiverDesign) -> Real:
    """What the channel's uncertainty adds on average: ``sum_k |b_k|^2 m^H Sigma_k m``."""
    if problem.error_covariance is None:
        return np.zeros(problem.batch_shape)
    spread = problem.error_covariance.quadratic(design.receive_beamformer)
    return np.asarray((design.power_w * spread).sum(axis=-1))


def noise(problem: AirCompProblem, design: TransceiverDesign) -> Real:
    """Amplified receiver noise: ``sigma^2 |m|^2``."""
    # Noise first goes into m: |m|^2 alone leaves the floats when path gains are 1e-300.
    amplitude = np.sqrt(problem.noise_power_w)[..., None] * np.abs(design.receive_beamformer)
    return np.asarray((amplitude**2).sum(axis=-1))


def aggregation_mse(problem: AirCompProblem, design: TransceiverDesign) -> Real:
    r"""Mean squared error of the over-the-air sum, per complex symbol and per real entry.

    .. math:: \sum_k |m^H h_k b_k - \omega_k|^2 + \sum_k |b_k|^2 m^H \Sigma_k m + \sigma^2 \|m\|^2

    Signal misalignment, imperfect CSI, amplified noise. Symbols are zero-mean, of unit power and
    uncorrelated across devices; :func:`correlated_mse` drops the last assumption.
    """
    return np.asarray(misalignment(problem, design) + csi_error(problem, design) + noise(problem, design))


def correlated_mse(
    problem: AirCompProblem, design: TransceiverDesign, correlation: Shaped[np.ndarray, "*batch K K"]
) -> Real:
    r"""Mean squared error when the devices' symbols are correlated and the channel is known.

    .. math:: \delta^H \Gamma \delta + \sigma^2 \|m\|^2, \qquad \delta_k = m^H h_k b_k - \omega_k

    `correlation` is :math:`\Gamma_{kj} = x_k^T x_j / D` of the normalised payloads. It is exact, in
    expectation over the receiver noise, for designs whose gains are real (all that `optim` returns).
    """
    delta = effective_gains(problem, design) - problem.target_gains
    quadratic = (delta.conj()[..., None, :] @ correlation @ delta[..., :, None])[..., 0, 0]
    return np.asarray(quadratic.real + noise(problem, design))


def best_transmit_scalars(
    problem: AirCompProblem, receive_beamformer: Complex[np.ndarray, "*batch N"]
) -> Complex[np.ndarray, "..."]:
    r"""Optimal transmit scalars for a given beamformer (one vector per device with several antennas).

    .. math:: b_k = \min\Big\{\sqrt{P_k}, \frac{\omega_k |g_k|}{|g_k|^2 + m^H \Sigma_k m / \kappa}\Big\}
              \frac{g_k^*}{|g_k|}, \qquad g_k = m^H h_k

    Devices are independent once m is fixed: each aligns its phase, then inverts or sends at full power.
    """
    gains = beam_gains(problem, receive_beamformer)
    spread = np.zeros(problem.target_gains.shape)
    if problem.error_covariance is not None:
        uncertainty = problem.error_covariance.quadratic(receive_beamformer)
        spread = uncertainty / problem.misalignment_weight[..., None]
    vectors = inverting_vectors(gains, problem.target_gains, problem.power_budget_w, spread)
    return vectors[..., 0] if problem.device_antennas == 1 else vectors


def inverting_vectors(
    gains: Complex[np.ndarray, "*batch K T"],
    targets: Float[np.ndarray, "*batch K"],
    power_w: Float[np.ndarray, "*batch K"],
    spread: Float[np.ndarray, "*batch K"] | float = 0.0,
) -> Complex[np.ndarray, "*batch K T"]:
    """Invert given gains as far as the power reaches; silence where nothing arrives."""
    strength = np.sqrt((np.abs(gains) ** 2).sum(axis=-1)) if gains.shape[-1] > 1 else np.abs(gains[..., 0])
    heard = strength > 0
    safe = np.where(heard, strength, 1.0)
    # w |g| / (|g|^2 + v) without squares that leave the floats.
    amplitude = np.minimum(np.sqrt(power_w), targets / (safe + spread / safe))
    return np.where(heard, amplitude / safe, 0.0)[..., None] * gains.conj()


def best_receive_beamformer(
    problem: AirCompProblem, transmit_scalars: Complex[np.ndarray, "..."]
) -> Complex[np.ndarray, "*batch N"]:
    r"""Linear MMSE beamformer for given transmit scalars.

    .. math:: m = \Big(A A^H + \tfrac1\kappa \big(\sum_k |b_k|^2 \Sigma_k + \sigma^2 I\big)\Big)^{-1}
              A \omega, \qquad A = [h_1 b_1, \dots, h_K b_K]

    Solved whitened, in the smaller of K and N dimensions where the channel is known.
    """
    vectors = transmit_scalars[..., None] if problem.device_antennas == 1 else transmit_scalars
    deviation = np.sqrt(problem.noise_power_w / problem.misalignment_weight)[..., None]
    arriving = (problem.stacked_channel @ (vectors / deviation[..., None])[..., None])[..., 0]  # K N
    columns = np.swapaxes(arriving, -1, -2)  # N K: A / sigma
    adjoint = arriving.conj()
    num_devices, num_antennas = problem.num_devices, problem.num_antennas
    targets = problem.target_gains.astype(np.complex128)[..., None]
    if problem.error_covariance is None and num_devices < num_antennas:
        # (A A^H + I)^-1 A = A (A^H A + I)^-1
        m = columns @ solve_ridge(adjoint @ columns + np.eye(num_devices), targets)
    else:
        system = columns @ adjoint + np.eye(num_antennas) + _whitened_uncertainty(problem, vectors)
        m = solve_ridge(system, columns @ targets)
    return m[..., 0] / deviation


def _whitened_uncertainty(
    problem: AirCompProblem, vectors: Complex[np.ndarray, "*batch K T"]
) -> Inexact[np.ndarray, "..."] | float:
    """``sum_k |b_k|^2 Sigma_k / sigma^2``."""
    if problem.error_covariance is None:
        return 0.0
    relative = (np.abs(vectors / np.sqrt(problem.noise_power_w)[..., None, None]) ** 2).sum(axis=-1)
    return problem.error_covariance.total(relative, problem.num_antennas)
