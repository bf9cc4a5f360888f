"""A user's own power constraints are kept, cost what they must, and say how they could be met."""

import cvxpy as cp
import numpy as np
import pytest

import optim
from optim import InfeasibleError
from optim.solvers.semidefinite import SemidefiniteRelaxation
from tests.optim.instances import combined, receiver


def constrained(problem, constraints):
    solution = optim.solve(problem, SemidefiniteRelaxation(constraints=constraints))
    solution.verify(problem)
    return solution


def sum_power(limit_w):
    return lambda v: [cp.sum(v.power_w) <= limit_w]


@pytest.mark.parametrize("limit_w", [0.01, 0.5, 2.0])
def test_a_sum_power_is_kept_and_more_of_it_never_hurts(limit_w):
    problem = receiver(seed=1, devices=5, antennas=3, snr_db=15.0)
    tight, loose = (constrained(problem, sum_power(factor * limit_w)) for factor in (1, 1.5))
    free = optim.solve(problem, "sdr")
    assert tight.power_w.sum() <= limit_w
    assert free.mse <= loose.mse * (1 + 1e-4) and loose.mse < tight.mse
    assert tight.lower_bound == pytest.approx(free.lower_bound, rel=1e-4)


def test_a_sum_power_is_spent_as_the_best_split_would():
    problem = receiver(seed=2, devices=2, antennas=1, snr_db=10.0)
    shares = np.linspace(0.01, 0.99, 197)
    splits = (problem.replaced(power_budget_w=np.minimum([s, 1 - s], problem.power_budget_w)) for s in shares)
    best = min(optim.solve(split).mse for split in splits)
    assert constrained(problem, sum_power(1.0)).mse == pytest.approx(best, rel=1e-3)
    assert constrained(problem, sum_power(1.0)).mse <= best * (1 + 1e-4)


def test_limits_that_do_not_bind_change_nothing():
    problem = receiver(seed=3, devices=3, antennas=2)
    free = optim.solve(problem, "sdr")
    assert constrained(problem, sum_power(100.0)).mse == pytest.approx(free.mse, rel=1e-4)
    assert constrained(problem, lambda v: []).mse == pytest.approx(free.mse, rel=1e-4)


def test_a_limit_per_device_is_a_smaller_budget():
    problem = receiver(seed=4, devices=3, antennas=2)
    caps = 0.3 * problem.power_budget_w
    ours = constrained(problem, lambda v: [v.power_w <= caps])
    smaller = optim.solve(problem.replaced(power_budget_w=caps), "sdr")
    assert ours.mse == pytest.approx(smaller.mse, rel=1e-4)


def test_every_problem_of_a_batch_has_its_own_power():
    batch = receiver(seed=5, devices=4, antennas=2, batch=(3,))
    together = constrained(batch, sum_power(1.0))
    assert (together.power_w.sum(axis=-1) <= 1.0).all()
    alone = constrained(batch.instance(1), sum_power(1.0))
    assert together.mse[1] == pytest.approx(alone.mse, rel=1e-5)


def test_milliwatts_are_kept_as_exactly():
    problem = receiver(seed=6, devices=4, antennas=2)
    small = problem.replaced(power_budget_w=1e-9 * problem.power_budget_w, noise_power_w=1e-10)
    assert constrained(small, sum_power(1e-9)).mse == pytest.approx(
        constrained(problem, sum_power(1.0)).mse, rel=1e-3
    )


def test_what_cannot_be_met_says_which_device_and_how_much_is_missing():
    problem = receiver(seed=7, devices=4).replaced(power_budget_w=1.0)
    with pytest.raises(
        InfeasibleError, match=r"constraints\[1\] cannot be met.* by 2 .*power_budget_w of device 2"
    ):
        constrained(problem, lambda v: [cp.sum(v.power_w) <= 5.0, v.power_w[2] >= 3.0])
    with pytest.raises(InfeasibleError, match=r"constraints\[0\] cannot be met.* by 1 "):
        constrained(problem, lambda v: [cp.sum(v.power_w) <= -1.0])


def test_a_demand_for_more_power_than_the_design_needs_is_refused():
    problem = receiver(seed=8, devices=4, snr_db=40.0)
    with pytest.raises(
        InfeasibleError, match="give constraints that still hold when a device sends with less"
    ):
        constrained(problem, lambda v: [v.power_w >= 0.99 * problem.power_budget_w])


def test_what_is_no_convex_constraint_is_refused():
    problem = receiver(seed=9)
    with pytest.raises(ValueError, match=r"constraints\[0\] is True: give cvxpy constraints"):
        constrained(problem, lambda v: [True])
    with pytest.raises(ValueError, match=r"constraints\[0\] = .* is not convex"):
        constrained(problem, lambda v: [cp.sum_squares(v.power_w) >= 1.0])
    with pytest.raises(ValueError, match="constraints are for one receiver"):
        optim.solve(combined(), SemidefiniteRelaxation(constraints=sum_power(1.0)))
