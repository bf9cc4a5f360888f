"""Problems too large for second-order steps and tight bounds: gradients, a looser bound, and both said."""

import numpy as np
import pytest

import optim
from optim import normal_form, quasi_newton, sqp, tight_bound
from optim.combined import layout
from optim.combined import solution as combined_solution
from optim.options import SolverOptions
from optim.solvers import sequential_quadratic
from tests.optim.instances import combined, receiver


def crowd(snr_db=10.0, device_antennas=1, seed=0):
    """The normal form of many devices in few dimensions, and a point to start from."""
    problem = receiver(seed=seed, devices=60 * device_antennas, antennas=4, snr_db=snr_db)
    if device_antennas > 1:
        channel = problem.channel.reshape(60, device_antennas, 4).swapaxes(1, 2)
        kept = slice(None, None, device_antennas)
        problem = optim.AirCompProblem(
            channel,
            problem.target_gains[kept],
            problem.power_budget_w[kept],
            problem.noise_power_w,
            device_antennas=device_antennas,
        )
    form = normal_form.apply(problem)
    return form, 0.1 * np.ones((1, form.rows.shape[-1]), dtype=complex)


@pytest.mark.parametrize("device_antennas", [1, 2])
def test_the_gradient_is_that_of_finite_differences(device_antennas):
    form, point = crowd(device_antennas=device_antennas)
    rng, step = np.random.default_rng(0), 1e-6

    def error(x):
        return quasi_newton.error_and_gradient(form.rows[0], form.targets[0], x)

    for _ in range(10):
        x = point[0] + 0.1 * (rng.standard_normal(4) + 1j * rng.standard_normal(4))
        towards = rng.standard_normal(4) + 1j * rng.standard_normal(4)
        slope = (error(x + step * towards)[0] - error(x - step * towards)[0]) / (2 * step)
        assert slope == pytest.approx(2 * np.vdot(error(x)[1], towards).real, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_gradients_alone_come_back_to_the_minimum_that_second_order_steps_found(snr_db):
    form, point = crowd(snr_db)
    options = SolverOptions(max_iterations=500, tolerance=1e-12)
    quick = sqp.descend(form.rows, form.targets, point, options)
    noise = np.random.default_rng(0).standard_normal((1, 4)) * 0.03 * np.abs(quick.points).max()
    slow = quasi_newton.descend(form.rows, form.targets, quick.points + noise, options)
    assert slow.errors[0] <= quick.errors[0] * (1 + 1e-6)
    assert slow.history[0, 0] > slow.errors[0] * 1.0001
    assert (np.diff(slow.history[:, 0]) <= 0).all()
    assert slow.history[-1, 0] == slow.errors[0]


def test_a_large_problem_is_designed_by_gradients_with_a_valid_bound_that_says_it_is_loose(monkeypatch):
    problem = receiver(seed=3, devices=80, antennas=4, snr_db=5.0)
    tight = optim.solve(problem, starts=2)
    monkeypatch.setattr(sequential_quadratic, "LARGEST_SECOND_ORDER", 10)
    for module in (sequential_quadratic, tight_bound):
        monkeypatch.setattr(module, "LARGEST_SYSTEM", 20)
    loose = optim.solve(problem, starts=2)
    loose.verify(problem)
    assert loose.status is optim.Status.LOOSE_BOUND
    assert 0 < loose.lower_bound <= tight.lower_bound
    assert loose.mse == pytest.approx(tight.mse, rel=0.05)
    assert (np.diff(loose.history) <= 0).all()


def test_devices_that_only_pad_a_batch_leave_the_bound_as_it_is():
    problem = receiver(seed=5, devices=6, antennas=3, batch=(2,))
    silenced = problem.replaced(target_gains=problem.target_gains * [[1] * 6, [1, 0, 1, 0, 0, 1]])
    together = optim.lower_bound(silenced)
    for index in range(2):
        assert together[index] == pytest.approx(optim.lower_bound(silenced.instance(index)), rel=1e-10)


def test_a_large_combined_problem_has_a_valid_bound_that_says_it_is_loose(monkeypatch):
    problem = combined(seed=4, tasks=(9, 8, 7), antennas=(3, 2), snr_db=10.0)
    tight = optim.solve(problem, starts=2, max_iterations=100)
    assert not tight.bound_is_loose
    for module in (layout, combined_solution):
        monkeypatch.setattr(module, "LARGEST_SYSTEM", 20)
    loose = optim.solve(problem, starts=2, max_iterations=100)
    loose.verify(problem)
    assert loose.bound_is_loose and loose.status is optim.Status.LOOSE_BOUND
    assert 0 < loose.lower_bound <= tight.lower_bound * (1 + 1e-6)
    assert 0 < optim.lower_bound(problem) <= tight.lower_bound * (1 + 1e-3)
    assert loose.pi <= 1.05 * tight.pi


@pytest.mark.parametrize("seed", [2, 4])
def test_in_a_crowd_few_starts_come_as_low_as_many_that_are_tracked(seed):
    problem = combined(seed=seed, tasks=(12, 12, 12, 12), antennas=(6, 3), snr_db=20.0)
    few = optim.solve(problem, starts=4, max_iterations=30)
    many = optim.solve(problem, starts=16, bound_tolerance=np.inf, max_iterations=30)
    assert few.pi <= 1.01 * many.pi
