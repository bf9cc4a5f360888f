"""Closed forms of the over-the-air design problem: what paper and pencil give, the solvers must give."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem
from optim.mse import beam_gains
from tests.optim.instances import combined, rayleigh, receiver

LOCAL = ("auto", "phase-mm", "alternating", "sca", "sdr")


def orthogonal(gains_db, antennas):
    """Channels along different antennas."""
    channel = np.zeros((len(gains_db), antennas), dtype=complex)
    np.fill_diagonal(channel, 10 ** (np.asarray(gains_db) / 20) * np.exp(1j * np.arange(len(gains_db))))
    return channel


@pytest.mark.parametrize("method", LOCAL)
def test_one_device_reaches_the_matched_filter_error(method):
    channel = np.array([[1, 1j, -1]])  # |h|^2 = 3
    solution = optim.solve(AirCompProblem(channel, 1.0, 2.0, 1.0), method)
    assert solution.mse == pytest.approx(1 / 7, rel=1e-6)
    assert solution.gap == pytest.approx(0, abs=1e-6)
    expected = np.sqrt(2) * channel[0] / (1 + 2 * 3)
    np.testing.assert_allclose(np.abs(solution.design.receive_beamformer), np.abs(expected), rtol=1e-5)


@pytest.mark.parametrize("method", ["threshold", *LOCAL])
def test_two_devices_on_one_antenna_split_into_full_power_and_inversion(method):
    problem = AirCompProblem(np.array([[1.0 + 0j], [2.0]]), 0.5, 1.0, 0.25)
    solution = optim.solve(problem, method, max_iterations=500, tolerance=1e-13)
    assert solution.mse == pytest.approx(0.05, rel=1e-5)
    assert abs(solution.design.receive_beamformer[0]) == pytest.approx(0.4, rel=1e-3)
    assert solution.power_w[0] == pytest.approx(1.0, rel=1e-9)
    arriving = solution.design.receive_beamformer.conj()[0] * 2.0 * solution.design.transmit_scalars[1]
    assert arriving == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("method", LOCAL)
def test_orthogonal_channels_fall_apart_into_single_devices(method):
    channel = orthogonal([0, 6, -3], antennas=4)
    targets, power_w, noise_w = np.array([0.2, 0.3, 0.5]), np.array([1.0, 2.0, 0.5]), 0.1
    problem = AirCompProblem(channel, targets, power_w, noise_w)
    snr = power_w * np.linalg.norm(channel, axis=1) ** 2 / noise_w
    solution = optim.solve(problem, method, max_iterations=500)
    assert solution.mse == pytest.approx((targets**2 / (1 + snr)).sum(), rel=1e-5)


def test_matched_multipliers_are_optimal_for_orthogonal_channels():
    problem = AirCompProblem(orthogonal([0, 6, -3], antennas=4), [0.2, 0.3, 0.5], 1.0, 0.1)
    snr = np.linalg.norm(problem.channel, axis=1) ** 2 / 0.1
    bound = optim.lower_bound(problem, 1 / snr)
    assert bound == pytest.approx((problem.target_gains**2 / (1 + snr)).sum(), rel=1e-10)


@pytest.mark.parametrize("method", LOCAL)
def test_identical_channels_act_like_one_device_of_summed_amplitude(method):
    devices, power_w, noise_w = 5, 2.0, 0.3
    h = rayleigh(np.random.default_rng(1), 3)
    problem = AirCompProblem(np.tile(h, (devices, 1)), 1 / devices, power_w, noise_w)
    expected = noise_w / (noise_w + devices * power_w * np.linalg.norm(h) ** 2) / devices
    assert optim.solve(problem, method).mse == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", LOCAL)
def test_collinear_channels_reach_the_perfect_alignment_bound(method):
    rng = np.random.default_rng(2)
    coefficients, direction = rayleigh(rng, 6, 1), rayleigh(rng, 4)
    problem = AirCompProblem(coefficients * direction, 1 / 6, 1.0, 0.05)
    scalar = AirCompProblem(np.abs(coefficients) * np.linalg.norm(direction), 1 / 6, 1.0, 0.05)
    expected = optim.solve(scalar, "threshold").mse
    assert optim.solve(problem, method, max_iterations=2000, tolerance=1e-12).mse == pytest.approx(
        expected, rel=1e-4
    )


def test_without_noise_the_error_per_noise_is_that_of_uniform_forcing():
    quiet, quieter = (optim.solve(receiver(seed=3, snr_db=snr)) for snr in (60.0, 80.0))
    problem = receiver(seed=3, snr_db=80.0)
    gains = np.abs(beam_gains(problem, quieter.design.receive_beamformer))[..., 0]
    forced = np.linalg.norm(quieter.design.receive_beamformer) ** 2  # every device can be inverted
    assert (np.sqrt(problem.power_budget_w) * gains >= problem.target_gains * (1 - 1e-3)).all()
    assert quieter.mse / 1e-8 == pytest.approx(forced, rel=1e-3)
    assert quiet.mse / 1e-6 == pytest.approx(quieter.mse / 1e-8, rel=1e-3)


def test_without_noise_three_devices_reach_the_least_norm_of_uniform_forcing():
    """``min |m|^2`` with ``P |m^H h|^2 >= w^2``, by its relaxation, which is exact for three devices."""
    import cvxpy as cp

    problem = receiver(seed=3, devices=3, antennas=3, snr_db=80.0)
    matrix = cp.Variable((3, 3), hermitian=True)
    reached = [cp.real(h.conj() @ matrix @ h) for h in problem.channel]
    needed = problem.target_gains**2 / problem.power_budget_w
    limits = [gain >= need for gain, need in zip(reached, needed, strict=True)]
    least = cp.Problem(cp.Minimize(cp.real(cp.trace(matrix))), [matrix >> 0, *limits])
    least.solve(solver=cp.CLARABEL)
    assert optim.solve(problem, starts=8).mse / 1e-8 == pytest.approx(least.value, rel=1e-3)


def test_in_loud_noise_only_the_coherent_sum_counts():
    problem = receiver(seed=4, devices=2, antennas=3, snr_db=-40.0)
    reached = (problem.target_gains * np.sqrt(problem.power_budget_w))[:, None] * problem.channel
    # max over phases of |v_1 + e^{j theta} v_2|^2
    coherent = (np.abs(reached) ** 2).sum() + 2 * abs(np.vdot(reached[0], reached[1]))
    silence = (problem.target_gains**2).sum()
    expected = coherent / 1e4
    assert silence - optim.solve(problem).mse == pytest.approx(expected, rel=1e-2)


def test_many_antennas_make_channels_orthogonal_from_below():
    errors, devices, antennas = [], 8, 1024
    for seed in range(4):
        channel = rayleigh(np.random.default_rng(seed), devices, antennas)
        problem = AirCompProblem(channel, 1 / devices, 1.0, 1.0)
        formula = (problem.target_gains**2 / (1 + np.linalg.norm(channel, axis=1) ** 2)).sum()
        errors.append(optim.solve(problem).mse / formula)
    assert 0.75 < np.mean(errors) < 1.0


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_up_to_three_devices_the_relaxation_is_exact(devices, snr_db):
    problem = receiver(seed=devices, devices=devices, antennas=4, snr_db=snr_db)
    relaxed = optim.solve(problem, "sdr")
    best = min(relaxed.mse, optim.solve(problem, starts=16).mse)
    assert best == pytest.approx(relaxed.lower_bound, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_up_to_three_devices_per_receiver_the_combined_relaxation_is_exact(seed):
    problem = combined(seed=seed, tasks=(2, 1), antennas=(2, 2), snr_db=10.0)
    relaxed = optim.solve(problem, "sdr", max_iterations=2000, tolerance=1e-10)
    assert relaxed.pi == pytest.approx(relaxed.lower_bound, rel=1e-4)


@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_on_one_antenna_the_threshold_rule_the_descent_and_the_relaxation_agree(snr_db):
    problem = receiver(seed=5, devices=8, antennas=1, snr_db=snr_db)
    exact = optim.solve(problem, "threshold")
    assert exact.gap == pytest.approx(0, abs=1e-9)
    assert optim.solve(problem, "phase-mm").mse == pytest.approx(exact.mse, rel=1e-6)
    assert optim.solve(problem, "sdr").lower_bound == pytest.approx(exact.mse, rel=1e-4)


def test_with_one_antenna_everywhere_the_combined_descent_meets_the_relaxation():
    problem = combined(seed=6, tasks=(4, 3), antennas=(1, 1), snr_db=15.0)
    relaxed = optim.solve(problem, "sdr", max_iterations=2000, tolerance=1e-10)
    fast = optim.solve(problem, max_iterations=2000, tolerance=1e-10)
    assert relaxed.pi == pytest.approx(relaxed.lower_bound, rel=1e-4)
    assert fast.pi == pytest.approx(relaxed.pi, rel=1e-4)


def test_the_threshold_rule_beats_a_fine_search_over_eight_decades():
    rng = np.random.default_rng(7)
    for _ in range(100):
        strengths, targets = 10 ** rng.uniform(-4, 4, 6), rng.uniform(0.1, 1.0, 6)
        problem = AirCompProblem(strengths[:, None].astype(complex), targets, 1.0, 1.0)
        solution = optim.solve(problem, "threshold")
        scales = np.abs(solution.design.receive_beamformer[0]) * np.linspace(0.5, 2.0, 2001)
        shortfall = np.maximum(targets - strengths * scales[:, None], 0.0)
        assert solution.mse <= (scales**2 + (shortfall**2).sum(axis=1)).min() * (1 + 1e-12)


@pytest.mark.parametrize("method", ["auto", "full-power", "inversion"])
def test_when_only_peaks_bind_every_receiver_is_a_problem_of_its_own(method):
    problem = combined(seed=8, peak=0.3, snr_db=10.0)
    assert (problem.average_power_w >= problem.peak_power_w).all()
    together = optim.solve(problem, method, max_iterations=2000, tolerance=1e-12, starts=8)
    peaks = [problem.peak_power_w, *(problem.peak_power_w[task] for task in problem.members)]
    alone = [
        optim.solve(stream, method, max_iterations=2000, tolerance=1e-12, starts=8)
        for stream in problem.streams(peaks)
    ]
    assert together.pi == pytest.approx(problem.stream_weights @ [s.mse for s in alone], rel=1e-6)


def test_without_a_personal_adapter_plain_aircomp_remains():
    problem = combined(seed=9, ranks=(6, 0), snr_db=10.0)
    solution = optim.solve(problem, max_iterations=2000, tolerance=1e-12)
    (shared, *_) = problem.streams(
        [problem.average_power_w, *(problem.average_power_w[t] for t in problem.members)]
    )
    assert solution.pi == pytest.approx(optim.solve(shared, tolerance=1e-12).mse, rel=1e-6)
    assert all((part.transmit_scalars == 0).all() for part in solution.design.edge_servers)


def test_without_a_shared_adapter_isolated_cells_remain():
    problem = combined(seed=10, ranks=(0, 4), snr_db=10.0)
    solution = optim.solve(problem, max_iterations=2000, tolerance=1e-12)
    caps = [problem.average_power_w, *(problem.average_power_w[t] for t in problem.members)]
    cells = [optim.solve(cell, tolerance=1e-12).mse for cell in problem.streams(caps)[1:]]
    assert solution.pi == pytest.approx(problem.stream_weights[1:] @ cells, rel=1e-6)
    assert (solution.design.base_station.transmit_scalars == 0).all()


def test_channel_inversion_amplifies_noise_by_its_weakest_device():
    problem = receiver(seed=11, devices=4, antennas=2)
    solution = optim.solve(problem, "inversion")
    assert solution.misalignment == pytest.approx(0, abs=1e-25)
    m = solution.design.receive_beamformer
    gains = np.abs(problem.channel @ (m / np.linalg.norm(m)).conj()) ** 2
    eta = (problem.power_budget_w * gains / problem.target_gains**2).min()
    assert solution.mse == pytest.approx(float(problem.noise_power_w) / eta, rel=1e-9)


def test_full_power_spends_every_watt():
    problem = receiver(seed=12)
    solution = optim.solve(problem, "full-power")
    np.testing.assert_allclose(solution.power_w, problem.power_budget_w, rtol=1e-12)
