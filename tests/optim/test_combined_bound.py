"""The combined relaxation by its own interior point: valid, tight, and the same as the reference's."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

import optim
from optim.combined.bound import combined_dual_value
from optim.combined.device_value import device_value
from optim.combined.form import normalise
from optim.combined.interior_point import relax
from optim.combined.layout import Layout
from optim.combined.power_split import best_split
from tests.optim.instances import combined, faded

PEAKS = [0.7, 1.3, 4.0]


def primal_value(form, relaxation) -> float:
    strengths = Layout(form).strengths(relaxation.covariances)
    power = best_split(form.budgets, strengths)
    missing = np.maximum(form.budgets.targets - np.sqrt(power) * strengths, 0.0)
    traces = [np.trace(x, axis1=-2, axis2=-1).real for x in relaxation.covariances]
    noise = sum(float(s.weights @ trace) for s, trace in zip(form.stacks, traces, strict=True))
    return float((form.device_weights * missing**2).sum() + noise)


@pytest.mark.parametrize("peak", PEAKS)
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_the_relaxations_two_values_meet_to_the_asked_tolerance(snr_db, peak):
    form = normalise(combined(seed=1, tasks=(5, 4, 3), antennas=(4, 3), snr_db=snr_db, peak=peak))
    relaxation = relax(form, 1e-6)
    bound = combined_dual_value(form, relaxation.multipliers[None])[0] / form.scale
    value = primal_value(form, relaxation)
    assert bound <= value * (1 + 1e-12)
    assert value <= bound * (1 + 2e-6)


@pytest.mark.parametrize("peak, snr_db", [(0.7, 0.0), (1.3, 10.0), (4.0, 20.0)])
def test_the_bound_agrees_with_the_convex_solvers(peak, snr_db):
    problem = combined(seed=2, tasks=(4, 3), antennas=(4, 2), snr_db=snr_db, peak=peak)
    reference = optim.solve(problem, "sdr", starts=2).lower_bound
    ours = optim.solve(problem, starts=2, bound_tolerance=1e-6).lower_bound
    assert ours == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_random_multipliers_never_beat_the_relaxation(seed):
    form = normalise(combined(seed=seed, peak=PEAKS[seed % 3], snr_db=10.0))
    relaxation = relax(form, 1e-6)
    best = combined_dual_value(form, relaxation.multipliers[None])[0]
    rng = np.random.default_rng(seed)
    spread = 10 ** rng.uniform(-1, 1, (200, 2, 5))
    tried = combined_dual_value(form, np.concatenate([spread, spread * relaxation.multipliers]))
    assert (tried <= best * (1 + 2e-6)).all()
    assert tried.max() > 0.3 * best


@pytest.mark.parametrize("peak", PEAKS)
def test_gradient_and_curvature_of_the_devices_value_are_its_derivatives(peak):
    budgets = normalise(combined(seed=3, peak=peak)).budgets
    multipliers = 10 ** np.random.default_rng(4).uniform(-1.5, 1, budgets.targets.shape)
    value, step = device_value(budgets, multipliers), 1e-6
    for phase, device in np.ndindex(multipliers.shape):
        ahead, behind = multipliers.copy(), multipliers.copy()
        ahead[phase, device] *= 1 + step
        behind[phase, device] *= 1 - step
        width = 2 * step * multipliers[phase, device]
        up, down = device_value(budgets, ahead), device_value(budgets, behind)
        assert (up.value - down.value) / width == pytest.approx(
            value.gradient[phase, device], rel=1e-5, abs=1e-9
        )
        row = value.exchange[phase, device] * value.exchange[:, device]
        row[phase] -= value.curvature[phase, device]
        numeric = (up.gradient - down.gradient)[:, device] / width
        np.testing.assert_allclose(numeric, row, rtol=1e-5, atol=1e-6 * np.abs(row).max())


@pytest.mark.parametrize("peak", PEAKS)
@pytest.mark.parametrize("leaking", [False, True])
def test_the_power_split_over_six_phases_meets_a_general_solver(peak, leaking):
    block = combined(seed=5, peak=peak, snr_db=5.0)
    problem = optim.MultiBlockProblem((block, faded(block, 6), faded(block, 7)), (1.0, 2.0, 3.0))
    budgets = normalise(problem).budgets
    rng = np.random.default_rng(8)
    strengths = rng.uniform(0.05, 1.0, budgets.targets.shape)
    leaks = rng.uniform(0.0, 0.3, strengths.shape) if leaking else np.zeros_like(strengths)
    power = best_split(budgets, strengths, leaks)
    shares, rho = budgets.shares[:, 0], budgets.priorities
    assert (shares @ power <= budgets.average * (1 + 1e-12)).all()
    assert (power <= budgets.peak * (1 + 1e-12)).all()

    def lost(amplitudes, k):
        missing = np.maximum(budgets.targets[:, k] - strengths[:, k] * amplitudes, 0.0)
        return shares @ (rho[:, k] * missing**2 + leaks[:, k] * amplitudes**2)

    for k in range(strengths.shape[1]):
        found = minimize(
            lost,
            np.full(6, 0.5 * np.sqrt(min(budgets.peak[k], budgets.average[k]))),
            args=(k,),
            bounds=[(0, np.sqrt(budgets.peak[k]))] * 6,
            constraints={"type": "ineq", "fun": lambda b, k=k: budgets.average[k] - shares @ b**2},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert lost(np.sqrt(power[:, k]), k) <= found.fun * (1 + 1e-9) + 1e-12


def test_an_infinite_tolerance_asks_for_closed_forms_only():
    problem = combined(seed=9, tasks=(5, 5), antennas=(4, 3), snr_db=15.0)
    quick, tight = optim.solve(problem, bound_tolerance=np.inf), optim.solve(problem)
    quick.verify(problem)
    assert quick.lower_bound <= tight.lower_bound * (1 + 1e-3)
    assert quick.objective == pytest.approx(tight.objective, rel=0.02)


@pytest.mark.parametrize("weight", [0.1, 1.0, 30.0])
def test_weighted_misalignment_is_the_plain_problem_with_less_noise(weight):
    plain = combined(seed=10, snr_db=10.0)
    weighted = replace(plain, misalignment_weight=weight)
    quieter = replace(plain, noise_power_w=plain.noise_power_w / weight)
    one, other = optim.solve(weighted), optim.solve(quieter)
    one.verify(weighted)
    assert one.objective == pytest.approx(weight * other.pi, rel=1e-9)
    assert one.lower_bound == pytest.approx(weight * other.lower_bound, rel=1e-9)
    assert one.pi == pytest.approx(optim.evaluate(plain, one.design).pi, rel=1e-12)
