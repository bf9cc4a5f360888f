"""Imperfect channel knowledge: closed forms, certificates, limits and invariances of the robust design."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, ErrorCovariance
from optim.mse import effective_gains
from tests.optim.instances import rayleigh, receiver

NOMINAL_METHODS = [m for m in optim.METHODS if m not in ("auto", "robust", "threshold")]


def correlation(rng, *shape) -> np.ndarray:
    root = rayleigh(rng, *shape, shape[-1])
    return root @ np.swapaxes(root.conj(), -1, -2) / shape[-1]


def estimated(seed=0, devices=6, antennas=3, snr_db=20.0, scale=0.02, batch=(), weight=1.0, full=False):
    """An estimated channel: errors of unequal size and common, or of unequal shape."""
    rng = np.random.default_rng(1000 + seed)
    shape = correlation(rng, *batch, devices, antennas) if full else correlation(rng, antennas)
    scales = scale * rng.uniform(0.5, 1.5, (*batch, devices))
    problem = receiver(seed, devices, antennas, snr_db, batch)
    return problem.replaced(error_covariance=ErrorCovariance(scales, shape), misalignment_weight=weight)


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


@pytest.mark.parametrize("scale", [0.0, 1e-14])
def test_vanishing_uncertainty_leaves_the_plain_problem(scale):
    problem = estimated(seed=9, scale=scale, batch=(3,))
    known = problem.replaced(error_covariance=None)
    robust, plain = optim.solve(problem), optim.solve(known)
    np.testing.assert_allclose(robust.mse, plain.mse, rtol=1e-6)
    np.testing.assert_allclose(robust.lower_bound, plain.lower_bound, rtol=3e-3)


def test_boundless_uncertainty_silences_everybody():
    problem = estimated(seed=10, scale=1e8)
    solution = optim.solve(problem)
    assert solution.mse == pytest.approx((problem.target_gains**2).sum(), rel=1e-6)
    assert solution.gap < 1e-4


@pytest.mark.parametrize("snr_db", [0.0, 30.0])
@pytest.mark.parametrize("starts", [1, 4])
def test_robustness_never_costs_expected_error(snr_db, starts):
    problem = estimated(seed=11, batch=(3,), snr_db=snr_db)
    report = optim.csi_report(problem, starts=starts, bound_tolerance=np.inf)
    assert (report.robust_error <= report.nominal_error).all()
    assert (report.believed_error <= report.nominal_error).all()
    assert (report.gain >= 1).all() and (report.optimism >= report.gain).all()


def test_a_report_tells_believed_expected_and_realised_errors_apart():
    problem, rng = estimated(seed=12, scale=0.1), np.random.default_rng(2)
    root = np.linalg.cholesky(problem.error_covariance.shape)
    drawn = rayleigh(rng, 6, 3) * np.sqrt(problem.error_covariance.scale)[:, None]
    truth = problem.channel + drawn @ root.T
    report = optim.csi_report(problem, truth, starts=2, bound_tolerance=np.inf)
    known = problem.replaced(channel=truth, error_covariance=None)
    assert report.robust_realised == float(optim.aggregation_mse(known, report.robust.design))
    assert report.nominal_realised == float(optim.aggregation_mse(known, report.nominal))
    assert report.informed_error <= min(report.robust_realised, report.nominal_realised)
    assert report.price == pytest.approx(report.robust_error / report.believed_error)
    assert optim.csi_report(problem, starts=1, bound_tolerance=np.inf).robust_realised is None


def test_a_report_needs_an_uncertainty_and_a_channel_that_fits():
    with pytest.raises(ValueError, match="error_covariance is missing"):
        optim.csi_report(receiver())
    with pytest.raises(ValueError, match=r"channel has shape \(2, 3\), but the estimate \(6, 3\)"):
        optim.csi_report(estimated(), np.ones((2, 3)))


def test_the_expected_error_is_the_mean_over_channels_that_fit_the_estimate():
    problem, rng = estimated(seed=13, scale=0.1, full=True), np.random.default_rng(3)
    design = optim.solve(problem).design
    covariance = problem.error_covariance
    root = np.linalg.cholesky(covariance.shape) * np.sqrt(covariance.scale)[:, None, None]
    errors = (root @ rayleigh(rng, 40_000, 6, 3, 1))[..., 0]
    gains = (problem.channel + errors) @ design.receive_beamformer.conj() * design.transmit_scalars
    realised = (np.abs(gains - problem.target_gains) ** 2).sum(axis=-1)
    predicted = optim.evaluate(problem, design)
    assert np.mean(realised) == pytest.approx(predicted.misalignment + predicted.csi_term, rel=0.01)


def test_errors_of_an_lmmse_estimate_from_pilots_follow_the_formula():
    rng, draws, devices, antennas = np.random.default_rng(4), 20_000, 3, 2
    prior = correlation(rng, devices, antennas)
    channel = (np.linalg.cholesky(prior) @ rayleigh(rng, draws, devices, antennas, 1))[..., 0]
    pilot_noise = 0.3
    pilots = channel + np.sqrt(pilot_noise) * rayleigh(rng, draws, devices, antennas)
    filters = prior @ np.linalg.inv(prior + pilot_noise * np.eye(antennas))
    estimate = (filters @ pilots[..., None])[..., 0]
    posterior = prior - filters @ prior
    posterior = (posterior + np.swapaxes(posterior.conj(), -1, -2)) / 2
    problem = AirCompProblem(estimate, 1 / 3, 1.0, 0.1, error_covariance=ErrorCovariance(1.0, posterior))
    beamformer = estimate.mean(axis=1)
    design = optim.TransceiverDesign(optim.best_transmit_scalars(problem, beamformer), beamformer)
    realised = optim.aggregation_mse(problem.replaced(channel=channel, error_covariance=None), design)
    assert np.mean(realised) == pytest.approx(np.mean(optim.aggregation_mse(problem, design)), rel=0.01)


def changed(problem, channel, scale, shape, order, factor=1.0):
    return AirCompProblem(
        channel[order] * factor,
        problem.target_gains[order],
        problem.power_budget_w[order],
        problem.noise_power_w * factor**2,
        error_covariance=ErrorCovariance(scale[order] * factor**2, shape),
    )


@pytest.mark.parametrize("factor", [1e-7, 1e3])
def test_scale_names_and_rotations_change_nothing(factor):
    problem, rng = estimated(seed=14, devices=5, snr_db=15.0), np.random.default_rng(5)
    covariance, rotation = problem.error_covariance, np.linalg.qr(rayleigh(rng, 3, 3))[0]
    turned = rotation.T @ covariance.shape @ rotation.conj()
    turned = (turned + turned.conj().T) / 2
    channel = problem.channel @ rotation
    other = changed(problem, channel, covariance.scale, turned, rng.permutation(5), factor)
    one, two = optim.solve(problem), optim.solve(other)
    assert two.mse == pytest.approx(one.mse, rel=1e-5)
    assert two.lower_bound == pytest.approx(one.lower_bound, rel=5e-3)


def test_a_common_shape_given_in_full_is_the_same_problem():
    problem = estimated(seed=15)
    covariance = problem.error_covariance
    full = problem.replaced(
        error_covariance=ErrorCovariance(1.0, covariance.scale[:, None, None] * covariance.shape)
    )
    one, two = optim.solve(problem), optim.solve(full)
    assert two.mse == pytest.approx(one.mse, rel=1e-6)
    assert two.lower_bound == pytest.approx(one.lower_bound, rel=1e-3)
    isotropic = problem.replaced(error_covariance=ErrorCovariance(covariance.scale))
    shaped = problem.replaced(error_covariance=ErrorCovariance(covariance.scale, np.eye(3)))
    assert optim.solve(shaped).mse == pytest.approx(optim.solve(isotropic).mse, rel=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_a_batch_is_its_members(full):
    problem = estimated(seed=16, batch=(2, 1), full=full)
    together = optim.solve(problem, starts=2)
    assert together.mse.shape == together.lower_bound.shape == (2, 1)
    together.verify(problem)
    for index in range(2):
        alone = optim.solve(problem.instance(index), starts=2)
        assert together.mse.reshape(-1)[index] == pytest.approx(alone.mse, rel=1e-5)
        assert together.lower_bound.reshape(-1)[index] == pytest.approx(alone.lower_bound, rel=3e-3)


@pytest.mark.parametrize("method", NOMINAL_METHODS)
def test_a_method_that_believes_the_estimate_is_still_judged_with_its_uncertainty(method):
    problem = estimated(seed=17, scale=0.05)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    assert solution.csi_term > 0
    assert solution.history == (pytest.approx(solution.objective),)
    robust = optim.solve(problem)
    assert solution.lower_bound <= robust.objective <= solution.objective * (1 + 1e-9)


def lost_link(problem):
    channel = problem.channel.copy()
    channel[0] = 0
    return problem.replaced(channel=channel)


def some_known(problem):
    covariance = problem.error_covariance
    scale = np.where(np.arange(6) < 2, 0.0, covariance.scale)
    return problem.replaced(error_covariance=ErrorCovariance(scale, covariance.shape))


def rank_one(problem):
    vector = rayleigh(np.random.default_rng(6), 3)
    shape = np.outer(vector, vector.conj())
    return problem.replaced(error_covariance=ErrorCovariance(0.1, (shape + shape.conj().T) / 2))


def no_shape(problem):
    return problem.replaced(error_covariance=ErrorCovariance(0.1, np.zeros((3, 3))))


def no_targets(problem):
    return problem.replaced(target_gains=np.zeros(6))


def few_devices(problem):
    return estimated(seed=18, devices=2, antennas=5)


@pytest.mark.parametrize("change", [lost_link, some_known, rank_one, no_shape, no_targets, few_devices])
def test_degenerate_uncertainty_is_an_ordinary_problem(change):
    problem = change(estimated(seed=18))
    solution = optim.solve(problem, starts=3)
    solution.verify(problem)
    assert np.isfinite([solution.objective, solution.lower_bound]).all()
    assert solution.gap < 1.0
    if change is no_targets:
        assert solution.status is optim.Status.SILENT and solution.mse == 0


@pytest.mark.parametrize("scale", [1e-14, 1e-7, 1e6])
@pytest.mark.parametrize("noise", [1e-14, 1e6])
def test_extreme_scales_stay_finite_and_certified(scale, noise):
    problem = estimated(seed=19, scale=scale).replaced(noise_power_w=noise)
    solution = optim.solve(problem, starts=2)
    solution.verify(problem)
    assert 0 < solution.lower_bound <= solution.objective <= (problem.target_gains**2).sum() * (1 + 1e-9)
    assert solution.gap < 1.0
