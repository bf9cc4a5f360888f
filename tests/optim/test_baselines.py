"""Baselines are what their formulas say, and never better than the certified bound."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem
from optim.infeasible import InfeasibleError
from optim.solvers.truncated_inversion import TruncatedInversion
from tests.optim.instances import combined, rayleigh, receiver

FIXED = ["random-direction", "weighted-sum", "leading-eigenvector", "weakest-device", "antenna-selection"]
BASELINES = [*FIXED, "full-power", "inversion", "truncated-inversion"]


def along(problem: AirCompProblem, direction: np.ndarray) -> float:
    """The least error behind one direction: that of one antenna with these gains."""
    gains = problem.channel @ (direction / np.linalg.norm(direction)).conj()
    return optim.solve(problem.replaced(channel=gains[:, None]), "threshold").mse


def direction_of(problem: AirCompProblem, method: str) -> np.ndarray:
    h, targets = problem.channel, problem.target_gains
    if method == "weighted-sum":
        return targets @ h
    if method == "leading-eigenvector":
        return np.linalg.eigh(h.T @ h.conj())[1][:, -1]
    return h[np.argmin(problem.power_budget_w * np.linalg.norm(h, axis=1) ** 2 / targets**2)]


@pytest.mark.parametrize("method", ["weighted-sum", "leading-eigenvector", "weakest-device"])
@pytest.mark.parametrize("devices, antennas", [(6, 3), (2, 5)])
def test_scale_and_powers_behind_a_fixed_direction_are_those_of_one_antenna(method, devices, antennas):
    problem = receiver(seed=1, devices=devices, antennas=antennas)
    solution = optim.solve(problem, method)
    direction = direction_of(problem, method)
    assert solution.mse == pytest.approx(along(problem, direction), rel=1e-10)
    m = solution.design.receive_beamformer
    cosine = abs(np.vdot(m, direction)) / np.linalg.norm(m) / np.linalg.norm(direction)
    assert cosine == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("devices, antennas", [(6, 4), (2, 5)])
def test_antenna_selection_is_the_best_of_all_antennas(devices, antennas):
    for seed in range(5):
        problem = receiver(seed=seed, devices=devices, antennas=antennas)
        solution = optim.solve(problem, "antenna-selection")
        tried = [
            optim.solve(problem.replaced(channel=h[:, None]), "threshold").mse for h in problem.channel.T
        ]
        assert solution.mse == pytest.approx(min(tried), rel=1e-10)
        assert np.flatnonzero(solution.design.receive_beamformer) == [np.argmin(tried)]


def test_a_random_direction_is_uniform_also_outside_the_span_of_the_channels():
    problem = receiver(seed=2, devices=1, antennas=4)
    h = problem.channel[0] / np.linalg.norm(problem.channel[0])
    shares = []
    for seed in range(400):
        m = optim.solve(problem, "random-direction", seed=seed).design.receive_beamformer
        shares.append(abs(np.vdot(m, h)) ** 2 / np.linalg.norm(m) ** 2)
    assert np.mean(shares) == pytest.approx(1 / 4, abs=0.03)  # |f^H h|^2 is Beta(1, 3)
    assert np.mean(np.square(shares)) == pytest.approx(2 / 20, abs=0.02)


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_on_one_antenna_every_direction_is_the_optimum(method, snr_db):
    problem = receiver(seed=3, antennas=1, snr_db=snr_db, batch=(3,))
    best = optim.solve(problem, "threshold").mse
    np.testing.assert_allclose(optim.solve(problem, method).mse, best, rtol=1e-10)


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("weight", [1.0, 30.0])
def test_no_baseline_beats_the_certified_bound(method, weight):
    problem = receiver(seed=4, antennas=4, snr_db=15.0, batch=(20,)).replaced(misalignment_weight=weight)
    bound = optim.solve(problem, starts=1).lower_bound
    assert (optim.solve(problem, method).objective >= bound).all()


def truncated_errors(problem: AirCompProblem, f: np.ndarray, threshold: float, renormalise=False) -> float:
    """The formula, term by term."""
    gains, targets = np.abs(problem.channel @ f.conj()) ** 2, problem.target_gains
    kept = gains >= threshold
    wanted = targets * (targets.sum() / targets[kept].sum() if renormalise else 1)
    noise = problem.noise_power_w * (wanted**2 / (problem.power_budget_w * gains))[kept].max(initial=0)
    return (targets[~kept] ** 2).sum() + ((wanted - targets)[kept] ** 2).sum() + noise


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_truncated_inversion_has_the_error_of_its_formula(threshold, renormalise):
    problem = receiver(seed=5, snr_db=5.0)
    method = TruncatedInversion(threshold=threshold, renormalise=renormalise)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    m = solution.design.receive_beamformer
    expected = truncated_errors(problem, m / np.linalg.norm(m), threshold, renormalise)
    assert solution.mse == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("snr_db", [-15.0, 0.0, 10.0])
def test_without_a_threshold_truncated_inversion_takes_the_best_of_all(renormalise, snr_db):
    for seed in range(5):
        problem = receiver(seed=seed, devices=8, antennas=1, snr_db=snr_db)
        solution = optim.solve(problem, TruncatedInversion(renormalise=renormalise))
        gains = np.abs(problem.channel[:, 0]) ** 2
        tried = [truncated_errors(problem, np.ones(1), gain, renormalise) for gain in gains]
        assert solution.mse == pytest.approx(min(tried), rel=1e-10)


def test_a_threshold_above_all_gains_leaves_silence():
    problem = receiver(seed=6)
    solution = optim.solve(problem, TruncatedInversion(threshold=1e9))
    assert solution.mse == pytest.approx((problem.target_gains**2).sum())
    assert (solution.power_w == 0).all()


def test_truncated_inversion_is_never_worse_than_inversion():
    problem = receiver(seed=7, devices=10, snr_db=5.0, batch=(30,))
    inverted, truncated = (
        optim.solve(problem, "inversion").mse,
        optim.solve(problem, "truncated-inversion").mse,
    )
    assert (truncated <= inverted * (1 + 1e-12)).all()
    assert (truncated < 0.9 * inverted).any()


def test_a_threshold_is_a_gain():
    with pytest.raises(ValueError, match="threshold = -1.0 is not allowed: give a gain"):
        TruncatedInversion(threshold=-1.0)


def test_an_equal_split_is_every_receiver_alone_at_the_lesser_of_both_powers():
    problem = combined(seed=8, snr_db=15.0, peak=0.8)
    solution = optim.solve(problem, "equal-split")
    solution.verify(problem)
    power_w = np.minimum(problem.average_power_w, problem.peak_power_w)
    streams = problem.streams([power_w, *(power_w[task] for task in problem.members)])
    alone = [optim.solve(stream).mse for stream in streams]
    assert solution.pi == pytest.approx(problem.stream_weights @ alone, rel=1e-9)


def test_coupling_is_worth_something_and_an_equal_split_never_beats_it():
    values = [
        optim.solve(problem, "equal-split").pi / optim.solve(problem).pi
        for problem in (combined(seed=seed, tasks=(4, 4), snr_db=15.0) for seed in range(4))
    ]
    assert min(values) > 1 - 1e-6 and max(values) > 1.01


def test_one_receiver_has_nothing_to_split():
    problem = receiver(seed=9)
    assert optim.solve(problem, "equal-split").mse == optim.solve(problem).mse


def test_channels_of_extreme_gain_have_the_same_directions():
    channel = rayleigh(np.random.default_rng(10), 5, 3)
    for method in BASELINES:
        one = optim.solve(AirCompProblem(channel, 0.2, 1.0, 0.1), method)
        far = optim.solve(AirCompProblem(channel * 1e-150, 0.2, 1.0, 1e-301), method)
        assert far.mse == pytest.approx(one.mse, rel=1e-9)


@pytest.mark.parametrize(
    "index, change, reason",
    [(1, {"channel": 0.0}, "channel is 0"), (2, {"power": 0.0}, "power_budget_w is 0 W")],
)
def test_what_cannot_be_inverted_is_named_with_the_way_out(index, change, reason):
    problem = receiver(seed=11, batch=(3,))
    channel, power_w = problem.channel.copy(), problem.power_budget_w.copy()
    channel[index, 4] *= change.get("channel", 1.0)
    power_w[index, 4] *= change.get("power", 1.0)
    broken = problem.replaced(channel=channel, power_budget_w=power_w)
    message = (
        f"device 4 of problem {index} in the batch cannot be heard, since its {reason}, .* 'truncated-inv"
    )
    with pytest.raises(InfeasibleError, match=message):
        optim.solve(broken, "inversion")
    optim.solve(broken, "truncated-inversion").verify(broken)


def test_inversion_hears_every_device_even_with_one_start_and_orthogonal_channels():
    problem = AirCompProblem(np.eye(4), 0.25, 1.0, 0.1)
    solution = optim.solve(problem, "inversion", starts=1)
    assert solution.misalignment == pytest.approx(0, abs=1e-25)


def test_an_equal_split_says_whether_it_came_to_rest():
    problem = combined(seed=6, tasks=(6, 6), antennas=(4, 4), snr_db=20.0)
    assert optim.solve(problem, "equal-split").status is optim.Status.CONVERGED
    hurried = optim.solve(problem, "equal-split", max_iterations=1, tolerance=1e-15)
    assert hurried.status is optim.Status.ITERATION_LIMIT
    assert optim.solve(problem, "full-power").status is optim.Status.CLOSED_FORM
