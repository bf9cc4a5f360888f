"""Robust design at its limits: vanishing, boundless and degenerate uncertainty, and what must not matter."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, ErrorCovariance
from tests.optim.instances import estimated, rayleigh


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
