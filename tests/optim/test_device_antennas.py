"""Devices with several antennas: the error formula against simulation, and the best transmit vectors."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, ErrorCovariance
from tests.optim.instances import rayleigh

DEVICES, ANTENNAS, DEVICE_ANTENNAS = 4, 3, 2


def problem_of(seed=0, scale=0.05, device_antennas=DEVICE_ANTENNAS, antennas=ANTENNAS, weight=1.0):
    rng = np.random.default_rng(seed)
    root = rayleigh(rng, antennas, antennas)
    shape = (DEVICES, antennas, device_antennas) if device_antennas > 1 else (DEVICES, antennas)
    return AirCompProblem(
        channel=rayleigh(rng, *shape),
        target_gains=rng.uniform(0.1, 0.4, DEVICES),
        power_budget_w=rng.uniform(0.5, 1.5, DEVICES),
        noise_power_w=0.1,
        misalignment_weight=weight,
        error_covariance=ErrorCovariance(scale * np.arange(1, DEVICES + 1), root @ root.conj().T),
        device_antennas=device_antennas,
    )


def test_the_formula_is_the_error_of_simulated_channels_and_symbols():
    problem, rng, draws = problem_of(seed=1), np.random.default_rng(0), 100_000
    beamformer = 0.5 * rayleigh(rng, ANTENNAS)
    design = optim.TransceiverDesign(
        optim.best_transmit_scalars(problem, beamformer), beamformer, DEVICE_ANTENNAS
    )
    covariance = problem.error_covariance
    root = np.linalg.cholesky(covariance.shape) * np.sqrt(covariance.scale)[:, None, None]
    channel = problem.channel + root @ rayleigh(rng, draws, DEVICES, ANTENNAS, DEVICE_ANTENNAS)
    symbols = rayleigh(rng, draws, DEVICES)
    sent = design.transmit_vectors * symbols[..., None]
    received = (channel @ sent[..., None])[..., 0].sum(axis=1)
    received += np.sqrt(problem.noise_power_w) * rayleigh(rng, draws, ANTENNAS)
    error = received @ beamformer.conj() - symbols @ problem.target_gains
    assert np.mean(np.abs(error) ** 2) == pytest.approx(
        float(optim.aggregation_mse(problem, design)), rel=0.02
    )


def test_no_other_transmit_vectors_of_the_same_power_do_better():
    problem, rng = problem_of(seed=2), np.random.default_rng(1)
    beamformer = 0.5 * rayleigh(rng, ANTENNAS)
    best = optim.TransceiverDesign(
        optim.best_transmit_scalars(problem, beamformer), beamformer, DEVICE_ANTENNAS
    )
    assert (best.power_w <= problem.power_budget_w * (1 + 1e-12)).all()
    floor = optim.aggregation_mse(problem, best)
    for _ in range(200):
        vectors = best.transmit_scalars + 0.2 * rayleigh(rng, DEVICES, DEVICE_ANTENNAS)
        size = np.linalg.norm(vectors, axis=-1, keepdims=True)
        vectors = vectors * np.minimum(1, np.sqrt(problem.power_budget_w)[:, None] / size)
        assert optim.aggregation_mse(problem, optim.TransceiverDesign(vectors, beamformer, 2)) >= floor


def test_the_error_is_flat_at_the_best_receive_beamformer():
    problem, rng = problem_of(seed=3, weight=1.0), np.random.default_rng(2)
    vectors = rayleigh(rng, DEVICES, DEVICE_ANTENNAS)
    best = optim.best_receive_beamformer(problem, vectors)
    floor = optim.aggregation_mse(problem, optim.TransceiverDesign(vectors, best, DEVICE_ANTENNAS))
    for step in 1e-3 * rayleigh(rng, 50, ANTENNAS):
        moved = optim.TransceiverDesign(vectors, best + step, DEVICE_ANTENNAS)
        assert optim.aggregation_mse(problem, moved) > floor


def test_a_second_antenna_without_a_channel_changes_nothing():
    single = problem_of(seed=4, device_antennas=1)
    channel = np.stack([single.channel, np.zeros_like(single.channel)], axis=-1)
    double = single.replaced(channel=channel, device_antennas=2)
    one, two = optim.solve(single, "robust"), optim.solve(double, "robust")
    assert two.mse == pytest.approx(one.mse, rel=1e-6)
    assert two.lower_bound == pytest.approx(one.lower_bound, rel=3e-3)
    np.testing.assert_allclose(two.design.transmit_scalars[:, 1], 0, atol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_a_robust_design_for_several_device_antennas_is_feasible_and_certified(weight):
    problem = problem_of(seed=5, weight=weight)
    solution = optim.solve(problem, "robust")
    solution.verify(problem)
    assert 0 < solution.lower_bound <= solution.objective
    assert solution.gap < 0.3
    assert (np.diff(solution.history) <= 0).all()
    assert solution.history[-1] == pytest.approx(solution.objective, rel=1e-9)


def test_more_device_antennas_never_hurt():
    double = problem_of(seed=6)
    single = double.replaced(channel=double.channel[..., 0], device_antennas=1)
    assert optim.solve(double, "robust").mse < optim.solve(single, "robust").mse


def test_with_one_receive_antenna_several_device_antennas_are_exact():
    problem = problem_of(seed=7, antennas=1)
    solution = optim.solve(problem, "robust")
    assert solution.status is optim.Status.CLOSED_FORM
    assert solution.gap < 1e-9
