"""Robust design: certificates, optimality conditions and closed forms under imperfect channel knowledge."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem
from optim.mse import effective_gains
from tests.optim.instances import estimated, rayleigh

# `auto`, `robust` and `equal-split` do not believe the estimate; uniform forcing and the proof refuse one.
KNOWN_ONLY = ("branch-and-bound", "uniform-forcing-sdr", "uniform-forcing-sca", "uniform-forcing-dc")
CAREFUL = ("auto", "robust", "threshold", "equal-split")
NOMINAL_METHODS = [m for m in optim.METHODS if m not in (*CAREFUL, *KNOWN_ONLY)]


def objective(problem, design):
    parts = optim.evaluate(problem, design)
    return problem.misalignment_weight * parts.misalignment + parts.csi_term + parts.noise_term


@pytest.mark.parametrize("full, weight", [(False, 1.0), (True, 0.3), (False, 10.0)])
@pytest.mark.parametrize("snr_db", [0.0, 40.0])
@pytest.mark.parametrize("scale", [1e-4, 0.1])
def test_a_robust_solution_is_feasible_certified_and_what_it_says(full, snr_db, scale, weight):
    problem = estimated(seed=1, snr_db=snr_db, scale=scale, weight=weight, full=full)
    solution = optim.solve(problem, starts=3)
    solution.verify(problem)
    assert 0 < solution.lower_bound <= solution.objective
    assert (np.diff(solution.history) <= 0).all()
    assert solution.history[-1] == pytest.approx(solution.objective, rel=1e-9)
    assert solution.objective == pytest.approx(float(objective(problem, solution.design)), rel=1e-12)
    gains = effective_gains(problem, solution.design)
    np.testing.assert_allclose(gains.imag, 0, atol=1e-12)


def test_no_perturbation_of_a_robust_design_does_better():
    problem, rng = estimated(seed=2, full=True), np.random.default_rng(0)
    solution = optim.solve(problem, tolerance=1e-12)
    beamformer = solution.design.receive_beamformer
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(50):
            other = beamformer + size * np.linalg.norm(beamformer) * rayleigh(rng, problem.num_antennas)
            design = optim.TransceiverDesign(optim.best_transmit_scalars(problem, other), other)
            assert optim.aggregation_mse(problem, design) >= solution.mse * (1 - 1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_the_robust_receiver_is_the_best_one_for_its_transmitters(full):
    problem = estimated(seed=3, full=full, snr_db=15.0)
    design = optim.solve(problem, tolerance=1e-13).design
    best = optim.best_receive_beamformer(problem, design.transmit_scalars)
    np.testing.assert_allclose(design.receive_beamformer, best, rtol=1e-4, atol=1e-5 * np.abs(best).max())


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
def test_up_to_three_devices_the_bound_is_met(snr_db):
    problem = estimated(seed=4, devices=3, snr_db=snr_db, batch=(2,), scale=0.05)
    solution = optim.solve(problem)
    assert (solution.gap < 3e-3).all()


def test_the_bound_lies_below_every_design():
    problem, rng = estimated(seed=5, devices=4, antennas=2, full=True), np.random.default_rng(1)
    bound = optim.solve(problem).lower_bound
    for _ in range(300):
        beamformer = rayleigh(rng, 2) * 10 ** rng.uniform(-2, 2)
        design = optim.TransceiverDesign(optim.best_transmit_scalars(problem, beamformer), beamformer)
        assert bound <= optim.aggregation_mse(problem, design)


def brute_force(problem: AirCompProblem) -> float:
    """One antenna: the best length of m on a fine grid."""
    lengths = np.geomspace(1e-4, 1e4, 200_001)
    gain = np.abs(problem.channel[:, 0, None]) * lengths
    spread = problem.error_covariance.quadratic(np.ones(1, complex))[:, None] * lengths**2
    spread = spread / problem.misalignment_weight
    targets = problem.target_gains[:, None]
    sent = np.minimum(np.sqrt(problem.power_budget_w)[:, None], targets * gain / (gain**2 + spread))
    lost = (targets - sent * gain) ** 2 + sent**2 * spread
    noise = problem.noise_power_w / problem.misalignment_weight * lengths**2
    return float(problem.misalignment_weight * (lost.sum(axis=0) + noise).min())


@pytest.mark.parametrize("weight", [1.0, 4.0])
@pytest.mark.parametrize("scale", [1e-3, 0.3])
def test_with_one_antenna_the_robust_design_is_exact_and_proved(scale, weight):
    problem = estimated(seed=6, antennas=1, scale=scale, weight=weight)
    solution = optim.solve(problem)
    assert solution.status is optim.Status.CLOSED_FORM
    assert solution.gap < 1e-9
    assert solution.objective == pytest.approx(brute_force(problem), rel=1e-7)


def test_with_one_antenna_weak_devices_send_at_full_power_up_to_the_published_threshold():
    problem = estimated(seed=7, antennas=1, scale=0.1, snr_db=5.0)
    design = optim.solve(problem).design
    gain = np.abs(problem.channel[:, 0]) ** 2
    spread = problem.error_covariance.quadratic(np.ones(1, complex))
    power, targets = problem.power_budget_w, problem.target_gains
    thresholds = targets**2 * gain / (power * (gain + spread) ** 2)
    size = np.abs(design.receive_beamformer[0]) ** 2
    full = np.isclose(design.power_w, power)
    assert full.any() and not full.all()
    np.testing.assert_array_equal(full, thresholds >= size)
    numerator = (targets * np.sqrt(power * gain))[full].sum()
    denominator = problem.noise_power_w + (power * (gain + spread))[full].sum()
    assert np.sqrt(size) == pytest.approx(numerator / denominator)


def test_no_power_removes_the_floor_of_uncertainty():
    problem = estimated(seed=8, antennas=1, scale=0.2)
    gain = np.abs(problem.channel[:, 0]) ** 2
    spread = problem.error_covariance.quadratic(np.ones(1, complex))
    floor = (problem.target_gains**2 * spread / (gain + spread)).sum()
    loud = optim.solve(problem.replaced(power_budget_w=1e12 * problem.power_budget_w))
    assert loud.mse == pytest.approx(floor, rel=1e-6)
    assert optim.solve(problem).lower_bound > floor


@pytest.mark.parametrize("method", NOMINAL_METHODS)
def test_a_method_that_believes_the_estimate_is_still_judged_with_its_uncertainty(method):
    problem = estimated(seed=17, scale=0.05)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    assert solution.csi_term > 0
    assert solution.history == (pytest.approx(solution.objective),)
    robust = optim.solve(problem)
    assert solution.lower_bound <= robust.objective <= solution.objective * (1 + 1e-9)
