"""Believed, expected and realised errors: what the formulas say, and what drawn channels do."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, ErrorCovariance
from tests.optim.instances import correlation, estimated, rayleigh, receiver


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
