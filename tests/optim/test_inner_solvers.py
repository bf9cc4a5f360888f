"""The exact inner steps against their optimality conditions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim.combined.power_split import DeviceBudgets, available_power, best_split
from optim.hinge import complex_point, minimise_hinge, real_point, real_rows
from optim.homotopy import COARSE
from optim.normal_form import apply
from optim.phase_step import phase_step, reduced_error
from optim.threshold import best_scale
from tests.optim.instances import rayleigh, receiver


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 12), size=st.integers(1, 8), decades=st.floats(-3, 4))
def test_hinge_minimisers_have_no_slope(seed, rows, size, decades):
    rng = np.random.default_rng(seed)
    matrix = 10**decades * rng.standard_normal((3, rows, size)) * 10 ** rng.uniform(-1, 1, (3, rows, 1))
    targets = rng.random((3, rows))
    x = minimise_hinge(matrix, targets, rng.standard_normal((3, size)))
    shortfall = np.maximum(targets - np.einsum("bkd,bd->bk", matrix, x), 0)
    slope = x - np.einsum("bkd,bk->bd", matrix, shortfall)
    scale = np.abs(np.einsum("bkd,bk->bd", np.abs(matrix), targets)).max()
    np.testing.assert_allclose(slope, 0, atol=1e-10 * scale)


def test_real_and_complex_coordinates_agree():
    rng = np.random.default_rng(0)
    rows, point = rayleigh(rng, 5, 3), rayleigh(rng, 3)
    np.testing.assert_allclose(real_rows(rows) @ real_point(point), (rows @ point).real)
    np.testing.assert_array_equal(complex_point(real_point(point)), point)


@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 40.0])
def test_a_phase_step_never_raises_the_error(snr_db):
    form = apply(receiver(seed=1, devices=9, antennas=4, snr_db=snr_db, batch=(20,)))
    point = 0.1 * rayleigh(np.random.default_rng(1), 20, 4)
    for _ in range(10):
        stepped = phase_step(form.rows, form.targets, point)
        before, after = (reduced_error(form.rows, form.targets, p) for p in (point, stepped))
        assert (after <= before * (1 + 1e-12)).all()
        point = stepped


def test_the_normal_form_leads_back():
    problem = receiver(seed=2, devices=3, antennas=6, batch=(4,))
    form = apply(problem)
    point = rayleigh(np.random.default_rng(2), 4, 3)
    np.testing.assert_allclose(form.project(form.invert(point)), point)
    arriving = np.sqrt(problem.power_budget_w) * np.abs(
        np.einsum("bkn,bn->bk", problem.channel, form.invert(point).conj())
    )
    expected = np.abs(np.einsum("bkn,bn->bk", form.rows, point)) * form.target_norm[:, None]
    np.testing.assert_allclose(form.arranged(arriving), expected)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), decades=st.floats(0, 8))
def test_the_best_scale_has_no_slope(seed, decades):
    rng = np.random.default_rng(seed)
    strengths = 10 ** (decades * (rng.random(7) - 0.5)) * (rng.random(7) < 0.9)
    targets = rng.random(7) * (rng.random(7) < 0.9)
    scale = float(best_scale(strengths, targets))
    slope = scale - (strengths * np.maximum(targets - strengths * scale, 0)).sum()
    assert slope == pytest.approx(0, abs=1e-12 * max(1, strengths @ targets))


def budgets_of(rng, devices=500, peak=3.0):
    return DeviceBudgets(
        targets=10 ** rng.uniform(-2, 0, (2, devices)),
        priorities=np.stack([np.ones(devices), rng.uniform(0.05, 1, devices)]),
        shares=np.array([[0.75], [0.25]]),
        average=np.ones(devices),
        peak=np.full(devices, peak),
    )


def loss(budgets, strengths, power):
    missing = np.maximum(budgets.targets - strengths * np.sqrt(power), 0) ** 2
    return (budgets.shares * budgets.priorities * missing).sum(axis=0)


@pytest.mark.parametrize("peak", [1.0, 1.2, 3.0, 100.0])
def test_no_other_split_of_the_energy_does_better(peak):
    rng = np.random.default_rng(3)
    budgets, strengths = budgets_of(rng, peak=peak), 10 ** rng.uniform(-3, 3, (2, 500))
    best = loss(budgets, strengths, best_split(budgets, strengths))
    for first in np.linspace(0, 1, 401)[:, None]:
        shared = np.minimum(first * budgets.average / 0.75, budgets.peak)
        personal = np.minimum((budgets.average - 0.75 * shared) / 0.25, budgets.peak)
        assert (best <= loss(budgets, strengths, np.stack([shared, personal])) + 1e-15).all()


@pytest.mark.parametrize("split", [best_split, available_power])
def test_powers_stay_within_average_and_peak(split):
    rng = np.random.default_rng(4)
    budgets, strengths = (
        budgets_of(rng),
        10 ** rng.uniform(-8, 8, (5, 2, 500)) * (rng.random((5, 2, 500)) < 0.9),
    )
    power = split(budgets, strengths)
    assert (power >= 0).all() and (power <= budgets.peak).all()
    assert ((budgets.shares * power).sum(axis=-2) <= budgets.average * (1 + 1e-12)).all()


def test_spare_energy_is_handed_out_and_costs_nothing():
    rng = np.random.default_rng(5)
    budgets, strengths = budgets_of(rng), 10 ** rng.uniform(0, 3, (2, 500))
    needed, available = best_split(budgets, strengths), available_power(budgets, strengths)
    assert (available >= needed * (1 - 1e-12)).all()
    assert (loss(budgets, strengths, available) <= loss(budgets, strengths, needed) + 1e-18).all()
    spent = (budgets.shares * available).sum(axis=0)
    full = np.isclose(spent, budgets.average) | (np.isclose(available, budgets.peak)).all(axis=0)
    assert full.all()


def test_softer_levels_rise_towards_the_problem_itself():
    form = apply(receiver(seed=6, snr_db=40.0, batch=(3,)))
    softest = COARSE.softest_factors(form.rows, form.targets)
    counts = COARSE.level_counts(softest)
    assert (counts > 1).all() and (counts <= COARSE.max_levels).all()
    factors = np.stack([COARSE.factors_at(softest, level) for level in range(int(counts.max()), -1, -1)])
    assert (np.diff(factors[1:], axis=0) > 0).all()
    assert (factors[0] == softest).all() and (factors[-1] == 1).all()
    assert (COARSE.level_counts(COARSE.softest_factors(1e-3 * form.rows, form.targets)) == 0).all()
