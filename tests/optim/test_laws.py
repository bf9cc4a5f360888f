"""What every method keeps, on both kinds of problem."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, CombinedProblem
from optim.mse import effective_gains
from tests.optim.instances import combined, receiver

METHODS = [method for method in optim.METHODS if method != "threshold"]
FORCING = ["uniform-forcing-sdr", "uniform-forcing-sca", "uniform-forcing-dc"]
CONVEX = ["sca", "sdr", *FORCING]
FAST = [method for method in METHODS if method not in CONVEX]
# What takes a combined problem too.
COMBINED = [method for method in METHODS if method not in ("branch-and-bound", *FORCING)]
# Single antennas turn into mixtures of all, and a sum of channels depends on their phases.
TURNABLE = [method for method in FAST if method not in ("antenna-selection", "weighted-sum")]
DESCENTS = ["auto", "sqp", "phase-mm", "alternating", "sca", "sdr"]


def rotation(seed, antennas):
    rng = np.random.default_rng(seed)
    square = rng.standard_normal((antennas, antennas)) + 1j * rng.standard_normal((antennas, antennas))
    return np.linalg.qr(square)[0]


def transformed(problem: AirCompProblem, channel=None, **changes) -> AirCompProblem:
    fields = {
        "channel": problem.channel if channel is None else channel,
        "target_gains": problem.target_gains,
        "power_budget_w": problem.power_budget_w,
        "noise_power_w": problem.noise_power_w,
    }
    return AirCompProblem(**(fields | changes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_a_solution_is_feasible_certified_and_what_it_says(method, snr_db):
    problem = receiver(seed=1, snr_db=snr_db)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    assert 0 < solution.lower_bound <= solution.mse
    assert solution.mse == pytest.approx(solution.misalignment + solution.noise_term)
    assert solution.mse == pytest.approx(float(optim.aggregation_mse(problem, solution.design)), rel=1e-12)
    assert solution.mse_db == pytest.approx(10 * np.log10(solution.mse))
    assert solution.gap == pytest.approx(solution.mse / solution.lower_bound - 1)


@pytest.mark.parametrize("method", COMBINED)
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_a_combined_solution_is_feasible_certified_and_what_it_says(method, snr_db):
    problem = combined(seed=2, snr_db=snr_db)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    assert 0 < solution.lower_bound <= solution.pi
    assert solution.pi == pytest.approx(problem.stream_weights @ solution.stream_mse, rel=1e-12)
    evaluation = optim.evaluate(problem, solution.design)
    assert evaluation.pi == solution.pi
    np.testing.assert_array_equal(evaluation.stream_mse, solution.stream_mse)


@pytest.mark.parametrize(
    "method, make",
    [(method, make) for method in DESCENTS for make in (receiver, combined)]
    + [(method, receiver) for method in FORCING],
)
def test_the_error_never_rises_on_the_way(method, make):
    problem = make(seed=3, snr_db=20.0)
    solution = optim.solve(problem, method)
    assert (np.diff(solution.history) <= 0).all()
    reached = solution.pi if isinstance(problem, CombinedProblem) else solution.mse
    assert solution.history[-1] == pytest.approx(reached, rel=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_transmitters_align_their_phases(method):
    problem = receiver(seed=4)
    solution = optim.solve(problem, method)
    gains = effective_gains(problem, solution.design)
    np.testing.assert_allclose(gains.imag, 0, atol=1e-12)
    assert (gains.real >= 0).all()


@pytest.mark.parametrize("method", FAST)
@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_renaming_devices_changes_nothing(method, snr_db):
    problem = receiver(seed=5, devices=7, snr_db=snr_db)
    order = np.random.default_rng(0).permutation(7)
    renamed = AirCompProblem(
        problem.channel[order],
        problem.target_gains[order],
        problem.power_budget_w[order],
        problem.noise_power_w,
    )
    one, other = optim.solve(problem, method), optim.solve(renamed, method)
    assert other.mse == pytest.approx(one.mse, rel=1e-5)
    assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-3)


@pytest.mark.parametrize("method", TURNABLE)
@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_rotating_antennas_or_phases_changes_nothing(method, snr_db):
    problem = receiver(seed=6, devices=7, snr_db=snr_db)
    phases = np.exp(2j * np.pi * np.random.default_rng(1).random((7, 1)))
    turned = transformed(problem, phases * problem.channel @ rotation(2, 3))
    one, other = optim.solve(problem, method), optim.solve(turned, method)
    assert other.mse == pytest.approx(one.mse, rel=1e-5)


@pytest.mark.parametrize("method", CONVEX)
def test_convex_solvers_do_not_see_names_and_rotations_either(method):
    problem = receiver(seed=7, devices=4, antennas=2)
    order = np.array([2, 0, 3, 1])
    turned = AirCompProblem(
        problem.channel[order] @ rotation(3, 2),
        problem.target_gains[order],
        problem.power_budget_w[order],
        0.1,
    )
    one, other = optim.solve(problem, method), optim.solve(turned, method)
    assert other.mse == pytest.approx(one.mse, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-14, 1e-5, 1e6])
def test_path_gain_and_noise_in_proportion_change_nothing(method, scale):
    problem = receiver(seed=8)
    scaled = transformed(problem, problem.channel * scale, noise_power_w=problem.noise_power_w * scale**2)
    one, other = optim.solve(problem, method), optim.solve(scaled, method)
    other.verify(scaled)
    assert other.mse == pytest.approx(one.mse, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_targets_is_four_times_the_error(method):
    problem = receiver(seed=9)
    doubled = transformed(problem, target_gains=2 * problem.target_gains)
    assert optim.solve(doubled, method).mse == pytest.approx(4 * optim.solve(problem, method).mse, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_solved_as_its_members_are(method):
    batch = receiver(seed=10, devices=4, antennas=2, batch=(2, 2))
    together = optim.solve(batch, method)
    together.verify(batch)
    assert together.mse.shape == together.lower_bound.shape == together.gap.shape == (2, 2)
    assert len(together.status) == len(together.history) == 4
    for index in range(4):
        alone = optim.solve(batch.instance(index), method)
        assert together.mse.reshape(-1)[index] == pytest.approx(alone.mse, rel=1e-6)
        beam = together.design.receive_beamformer.reshape(4, -1)[index]
        assert np.abs(beam) == pytest.approx(np.abs(alone.design.receive_beamformer), rel=1e-2)


@pytest.mark.parametrize("method", FAST)
def test_quiet_and_loud_receivers_do_not_disturb_each_other_in_a_batch(method):
    channel = receiver(seed=16, devices=7, antennas=3, batch=(4,)).channel
    batch = AirCompProblem(channel, 1 / 7, 1.0, [10.0, 0.1, 1e-3, 1e-7])
    together = optim.solve(batch, method)
    alone = [optim.solve(batch.instance(index), method).mse for index in range(4)]
    np.testing.assert_allclose(together.mse, alone, rtol=1e-9)


@pytest.mark.parametrize("method", COMBINED)
def test_the_same_call_gives_the_same_bits(method):
    problem = combined(seed=11)
    assert optim.solve(problem, method).pi == optim.solve(problem, method).pi


@pytest.mark.parametrize("method", COMBINED)
@pytest.mark.parametrize("scale", [1e-14, 1e6])
def test_combined_errors_depend_on_signal_to_noise_ratios_only(method, scale):
    problem = combined(seed=12)
    scaled = CombinedProblem(
        base_station_channel=problem.base_station_channel * scale,
        edge_channels=tuple(channel * scale for channel in problem.edge_channels),
        members=problem.members,
        data_sizes=problem.data_sizes * 7,
        rank_shared=problem.rank_shared * 3,
        rank_personal=problem.rank_personal * 3,
        average_power_w=problem.average_power_w,
        peak_power_w=problem.peak_power_w,
        noise_power_w=problem.noise_power_w * scale**2,
    )
    solution = optim.solve(scaled, method)
    solution.verify(scaled)
    assert solution.pi == pytest.approx(optim.solve(problem, method).pi, rel=1e-5)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_fast_and_convex_descents_agree_to_the_convex_solvers_accuracy(snr_db):
    problem = receiver(seed=13, devices=5, antennas=2, snr_db=snr_db)
    errors = [
        optim.solve(problem, method, starts=8, max_iterations=500).mse
        for method in ("phase-mm", "sca", "sdr")
    ]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_no_method_beats_the_relaxations_bound_and_no_certificate_exceeds_it(seed):
    problem = receiver(seed=seed, devices=8, antennas=3, snr_db=15.0)
    relaxed = optim.solve(problem, "sdr")
    for method in METHODS:
        solution = optim.solve(problem, method)
        assert relaxed.lower_bound <= solution.mse
        if method != "branch-and-bound":  # whose bound is no certificate of the relaxation
            assert solution.lower_bound <= relaxed.lower_bound * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_no_method_beats_the_combined_relaxations_bound(seed):
    problem = combined(seed=seed, tasks=(4, 3, 3), antennas=(4, 2), snr_db=15.0)
    relaxed = optim.solve(problem, "sdr")
    for method in COMBINED:
        solution = optim.solve(problem, method)
        assert relaxed.lower_bound <= solution.pi
        assert solution.lower_bound <= relaxed.lower_bound * (1 + 1e-3)


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
def test_a_good_method_is_much_better_than_no_method(snr_db):
    problem = combined(seed=14, tasks=(4, 4), antennas=(4, 2), snr_db=snr_db)
    best = optim.solve(problem).pi
    assert best < optim.solve(problem, "full-power").pi
    assert best < optim.solve(problem, "inversion").pi


def test_more_iterations_and_more_starts_never_hurt_much():
    problem = combined(seed=15, tasks=(5, 5), antennas=(4, 3), snr_db=20.0)
    quick = optim.solve(problem, starts=2, max_iterations=8)
    thorough = optim.solve(problem, starts=8, max_iterations=400)
    assert thorough.pi <= quick.pi * 1.001
    assert quick.pi <= thorough.pi * 1.2
