"""A certificate is a promise: no design, however found, may lie below it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optim
from optim import normal_form
from optim.certificate import dual_value, stationary_multipliers
from tests.optim.instances import combined, estimated, rayleigh, receiver


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), snr_db=st.floats(-30, 60), decades=st.floats(0, 6))
def test_random_multipliers_never_exceed_a_good_design(seed, snr_db, decades):
    problem = receiver(seed=seed % 50, snr_db=snr_db)
    rng = np.random.default_rng(seed)
    multipliers = 10 ** rng.uniform(-decades, 0, problem.num_devices) * (
        rng.random(problem.num_devices) < 0.8
    )
    assert 0 <= optim.lower_bound(problem, multipliers) <= optim.solve(problem).mse


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    snr_db=st.floats(-30, 60),
    peak=st.floats(0.3, 30),
    ranks=st.sampled_from([(6, 2), (1, 7)]),
)
def test_random_multipliers_never_exceed_a_good_combined_design(seed, snr_db, peak, ranks):
    problem = combined(seed=seed % 50, snr_db=snr_db, peak=peak, ranks=ranks)
    rng = np.random.default_rng(seed)
    multipliers = [10 ** rng.uniform(-4, 4, n) * (rng.random(n) < 0.8) for n in (5, 3, 2)]
    assert (
        0 <= optim.lower_bound(problem, multipliers) <= optim.solve(problem, starts=2, max_iterations=20).pi
    )


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_no_random_design_lies_below_the_relaxations_bound(snr_db):
    problem = receiver(seed=1, devices=5, antennas=2, snr_db=snr_db)
    bound = optim.solve(problem, "sdr").lower_bound
    rng = np.random.default_rng(2)
    for direction in rayleigh(rng, 300, 2):
        for scale in np.geomspace(0.01, 1.0, 7):
            m = direction * scale
            design = optim.TransceiverDesign(optim.best_transmit_scalars(problem, m), m)
            assert optim.aggregation_mse(problem, design) >= bound


def test_only_the_proportions_of_multipliers_matter():
    problem = receiver(seed=3)
    multipliers = np.random.default_rng(0).random(problem.num_devices)
    assert optim.lower_bound(problem, multipliers) == pytest.approx(
        optim.lower_bound(problem, 1e9 * multipliers)
    )


def test_at_a_stationary_point_the_multipliers_give_back_its_error():
    problem = receiver(seed=4, snr_db=15.0)
    form = normal_form.apply(problem)
    solution = optim.solve(problem, tolerance=1e-15, max_iterations=1000)
    point = form.project(solution.design.receive_beamformer[None])
    multipliers = stationary_multipliers(form, point)
    rebuilt = (form.targets**2 * multipliers / (1 + multipliers)).sum() * form.target_norm[0] ** 2
    assert rebuilt == pytest.approx(solution.mse, rel=1e-5)
    matrix = (form.rows[0].conj().T * multipliers[0]) @ form.rows[0]
    np.testing.assert_allclose(matrix @ point[0], point[0], rtol=0, atol=1e-5 * np.linalg.norm(point))


def test_a_lost_device_adds_its_whole_target_to_the_bound():
    problem = receiver(seed=5)
    channel = problem.channel.copy()
    channel[2] = 0
    lost = optim.AirCompProblem(channel, problem.target_gains, problem.power_budget_w, problem.noise_power_w)
    kept = np.arange(problem.num_devices) != 2
    rest = optim.AirCompProblem(
        channel[kept], lost.target_gains[kept], lost.power_budget_w[kept], lost.noise_power_w
    )
    expected = optim.lower_bound(rest) + problem.target_gains[2] ** 2
    assert optim.lower_bound(lost) == pytest.approx(expected, rel=1e-9)


def test_zero_multipliers_certify_nothing():
    assert optim.lower_bound(receiver(), 0.0) == 0
    assert optim.lower_bound(combined(), [0.0, 0.0, 0.0]) == 0


def test_combined_multipliers_are_those_of_each_stream_when_only_peaks_bind():
    problem = combined(seed=6, peak=0.3)
    caps = [problem.peak_power_w, *(problem.peak_power_w[task] for task in problem.members)]
    streams = problem.streams(caps)
    rng = np.random.default_rng(0)
    given_ones = [rng.random(stream.num_devices) for stream in streams]
    parts = [optim.lower_bound(s, g / s.power_budget_w) for s, g in zip(streams, given_ones, strict=True)]
    assert optim.lower_bound(problem, given_ones) == pytest.approx(problem.stream_weights @ parts, rel=1e-9)


def test_a_batch_of_certificates_is_certified_one_by_one():
    batch = receiver(seed=7, batch=(3,))
    together = optim.lower_bound(batch)
    assert together.shape == (3,)
    assert together == pytest.approx([optim.lower_bound(batch.instance(i)) for i in range(3)])
    form = normal_form.apply(batch)
    assert dual_value(form, np.ones((5, *form.targets.shape))).shape == (5, 3)


@pytest.mark.parametrize(
    "multipliers, message", [([-1.0] * 6, r"multipliers\[0\] = -1"), ([1.0] * 5, "shape")]
)
def test_impossible_multipliers_are_refused(multipliers, message):
    with pytest.raises(ValueError, match=message):
        optim.lower_bound(receiver(), multipliers)


def test_combined_multipliers_come_one_array_per_stream():
    with pytest.raises(ValueError, match="give 3, one array per stream"):
        optim.lower_bound(combined(), [1.0, 1.0])


@pytest.mark.parametrize("field", ["misalignment", "noise_term", "lower_bound"])
def test_verify_finds_a_wrong_number(field):
    import dataclasses

    problem = receiver(seed=8)
    solution = optim.solve(problem)
    wrong = dataclasses.replace(solution, **{field: getattr(solution, field) * 1.5 + solution.mse})
    with pytest.raises(optim.VerificationError, match=field):
        wrong.verify(problem)


def test_verify_finds_too_much_power():
    problem = receiver(seed=9)
    solution = optim.solve(problem)
    weaker = optim.AirCompProblem(problem.channel, problem.target_gains, problem.power_budget_w / 2, 0.1)
    with pytest.raises(optim.VerificationError, match="power_w"):
        solution.verify(weaker)


def test_verify_finds_too_much_average_power():
    problem, generous = combined(seed=10), combined(seed=10)
    object.__setattr__(generous, "average_power_w", 3 * problem.average_power_w)
    with pytest.raises(optim.VerificationError, match="average power"):
        optim.solve(generous).verify(problem)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
def test_the_bound_without_a_design_is_as_near_to_the_relaxations_value_as_asked(tolerance):
    for problem in (receiver(seed=8, devices=8, antennas=3), combined(seed=8)):
        exact = optim.lower_bound(problem, tolerance=1e-8)
        for bound, reach in (
            (optim.lower_bound(problem, tolerance=tolerance), tolerance),
            (optim.solve(problem, bound_tolerance=tolerance).lower_bound, tolerance),
            (optim.solve(problem).lower_bound, 1e-3),
        ):
            assert exact / (1 + reach) <= bound <= exact * (1 + 1e-8)


def test_an_uncertain_channels_bound_is_that_of_its_robust_design():
    problem = estimated(seed=1)
    assert optim.lower_bound(problem) == optim.solve(problem, "robust", starts=1).lower_bound


def test_multipliers_and_a_tolerance_exclude_each_other():
    with pytest.raises(ValueError, match="both given"):
        optim.lower_bound(receiver(), 1.0, tolerance=1e-3)
    with pytest.raises(ValueError, match="tolerance = 0.0 is not allowed"):
        optim.lower_bound(receiver(), tolerance=0.0)
