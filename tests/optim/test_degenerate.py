"""Channels that are lost, equal, parallel or absurdly scaled: always finite, always certified."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optim
from optim import AirCompProblem, CombinedProblem, Status
from optim.infeasible import InfeasibleError
from tests.optim.instances import combined, rayleigh, receiver

# Uniform forcing refuses a device that it cannot hear: see test_uniform_forcing.
FORCING = [method for method in optim.METHODS if method.startswith("uniform-forcing")]
METHODS = [method for method in optim.METHODS if method not in ("threshold", *FORCING)]
FAST = [method for method in METHODS if method not in ("sca", "sdr")]
# What takes a combined problem too.
COMBINED = [method for method in METHODS if method != "branch-and-bound"]
RNG = np.random.default_rng(0)
# A device with a target cannot be heard: pure inversion refuses.
UNHEARD = ["one lost link", "all links lost", "a device without power", "nobody has power"]
UNHEARD_COMBINED = ["base station lost", "an edge server lost", "no power", "one without peak power"]


def solvable(names, methods):
    refused = [*UNHEARD, *UNHEARD_COMBINED]
    return [(name, m) for name in names for m in methods if m != "inversion" or name not in refused]


DEGENERATE = {
    "one lost link": AirCompProblem(rayleigh(RNG, 5, 3) * np.array([[1], [0], [1], [1], [1]]), 0.2, 1.0, 0.1),
    "all links lost": AirCompProblem(np.zeros((4, 2)), 0.25, 1.0, 0.1),
    "equal channels": AirCompProblem(np.tile(rayleigh(RNG, 1, 3), (4, 1)), 0.25, 1.0, 0.1),
    "parallel channels": AirCompProblem(rayleigh(RNG, 4, 1) * rayleigh(RNG, 3), 0.25, 1.0, 0.1),
    "fewer devices than antennas": AirCompProblem(rayleigh(RNG, 2, 6), 0.5, 1.0, 0.1),
    "a device without target": AirCompProblem(rayleigh(RNG, 4, 2), [0.5, 0.0, 0.25, 0.25], 1.0, 0.1),
    "nothing wanted": AirCompProblem(rayleigh(RNG, 3, 2), 0.0, 1.0, 0.1),
    "a device without power": AirCompProblem(rayleigh(RNG, 4, 2), 0.25, [1.0, 0.0, 1.0, 2.0], 0.1),
    "nobody has power": AirCompProblem(rayleigh(RNG, 3, 2), 0.3, 0.0, 0.1),
    "one device, one antenna": AirCompProblem(np.array([[2j]]), 1.0, 1.0, 1.0),
    "near and far": AirCompProblem(
        rayleigh(RNG, 5, 3) * 10.0 ** np.array([[-6], [-3], [0], [2], [4]]), 0.2, 1.0, 0.1
    ),
    "path loss of a city": AirCompProblem(1e-15 * rayleigh(RNG, 5, 3), 0.2, 0.1, 1e-31),
}


@pytest.mark.parametrize("name, method", solvable(DEGENERATE, METHODS))
def test_degenerate_problems_have_finite_certified_designs(name, method):
    problem = DEGENERATE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        solution = optim.solve(problem, method)
    solution.verify(problem)
    silence = (problem.target_gains**2).sum()
    assert np.isfinite(solution.design.receive_beamformer).all()
    if method in ("auto", "phase-mm", "alternating", "sca", "sdr"):
        assert solution.mse <= silence * (1 + 1e-12)


@pytest.mark.parametrize("name", UNHEARD)
def test_inversion_refuses_a_device_that_cannot_be_heard(name):
    with pytest.raises(InfeasibleError, match="device . cannot be heard, since .* 'truncated-inversion'"):
        optim.solve(DEGENERATE[name], "inversion")


@pytest.mark.parametrize(
    "name, method", solvable(["all links lost", "nothing wanted", "nobody has power"], METHODS)
)
def test_where_nothing_can_arrive_silence_is_optimal(name, method):
    problem = DEGENERATE[name]
    solution = optim.solve(problem, method)
    assert solution.status is Status.SILENT
    assert (solution.design.receive_beamformer == 0).all()
    assert solution.mse == pytest.approx((problem.target_gains**2).sum())
    assert solution.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "name, method", solvable(["one lost link", "a device without target", "a device without power"], FAST)
)
def test_a_silent_device_can_as_well_be_left_out(name, method):
    problem = DEGENERATE[name]
    kept = (
        (np.abs(problem.channel).max(axis=1) > 0) & (problem.target_gains > 0) & (problem.power_budget_w > 0)
    )
    rest = AirCompProblem(
        problem.channel[kept], problem.target_gains[kept], problem.power_budget_w[kept], problem.noise_power_w
    )
    lost = (problem.target_gains[~kept] ** 2).sum()
    full, alone = optim.solve(problem, method, tolerance=1e-11), optim.solve(rest, method, tolerance=1e-11)
    assert full.mse == pytest.approx(alone.mse + lost, rel=1e-6)


def changed(problem: CombinedProblem, **changes) -> CombinedProblem:
    names = [
        "base_station_channel", "edge_channels", "members", "data_sizes", "rank_shared", "rank_personal",
        "average_power_w", "peak_power_w", "noise_power_w", "payload_std",
    ]  # fmt: skip
    return CombinedProblem(**({name: getattr(problem, name) for name in names} | changes))


def degenerate_combined():
    base = combined(seed=1)
    ones = np.ones(5)
    yield "base station lost", changed(base, base_station_channel=np.zeros((5, 4)))
    yield "an edge server lost", changed(base, edge_channels=[np.zeros((3, 2)), base.edge_channels[1]])
    yield "no power", changed(base, average_power_w=0.0)
    yield "one without peak power", changed(base, peak_power_w=[1, 0, 1, 1, 1])
    yield "constant payloads", changed(base, payload_std=(0 * ones, 0 * ones))
    yield "constant shared payloads", changed(base, payload_std=(0 * ones, ones))
    yield "one constant payload", changed(base, payload_std=(ones, np.array([1, 1e-13, 1, 1, 1])))
    yield "only shared", changed(base, rank_personal=0)
    yield "only personal", changed(base, rank_shared=0)
    yield (
        "an empty task",
        changed(base, members=[[0, 1, 2, 3, 4], []], edge_channels=[rayleigh(RNG, 5, 2), np.zeros((0, 2))]),
    )
    yield (
        "tiny gains",
        changed(
            base,
            base_station_channel=1e-15 * base.base_station_channel,
            edge_channels=[1e-12 * channel for channel in base.edge_channels],
            noise_power_w=[1e-31, 1e-25, 1e-24],
        ),
    )


@pytest.mark.parametrize("name", UNHEARD_COMBINED)
def test_inversion_refuses_a_combined_problem_with_a_device_that_cannot_be_heard(name):
    where = "edge server 0, devices" if name == "an edge server lost" else "base station"
    with pytest.raises(InfeasibleError, match=f"{where}.*: device . cannot be heard"):
        optim.solve(dict(degenerate_combined())[name], "inversion")


@pytest.mark.parametrize("name, method", solvable(dict(degenerate_combined()), COMBINED))
def test_degenerate_combined_problems_have_finite_certified_designs(name, method):
    problem = dict(degenerate_combined())[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        solution = optim.solve(problem, method)
    solution.verify(problem)
    assert np.isfinite(solution.pi)
    if name in ("no power", "constant payloads"):
        assert solution.status is Status.SILENT
    for weight, part in zip(problem.stream_weights, solution.design.streams, strict=True):
        if weight == 0:
            assert (part.transmit_scalars == 0).all()
            assert (part.receive_beamformer == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    snr_db=st.floats(-100, 150),
    gain=st.floats(-30, 10),
    spread=st.floats(0, 4),
    method=st.sampled_from(FAST),
)
def test_any_scale_is_solved_and_certified(seed, snr_db, gain, spread, method):
    rng = np.random.default_rng(seed)
    distances = 10 ** (gain / 2 + spread * (rng.random((5, 1)) - 0.5))
    problem = AirCompProblem(distances * rayleigh(rng, 5, 3), 0.2, 1.0, 10 ** (gain - snr_db / 10))
    solution = optim.solve(problem, method, starts=2, max_iterations=50)
    solution.verify(problem)
    assert np.isfinite(solution.mse)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    snr_db=st.floats(-60, 100),
    peak=st.floats(0.1, 100),
    method=st.sampled_from([m for m in FAST if m in COMBINED]),
)
def test_any_combined_scale_is_solved_and_certified(seed, snr_db, peak, method):
    problem = combined(seed=seed, snr_db=snr_db, peak=peak)
    optim.solve(problem, method, starts=2, max_iterations=20).verify(problem)


def test_a_hundred_decibels_behave_like_forty():
    errors = [optim.solve(receiver(seed=2, snr_db=snr)).mse * 10 ** (snr / 10) for snr in (40.0, 100.0)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)


@pytest.mark.parametrize("snr_db", [150.0, 200.0, 300.0])
@pytest.mark.parametrize("method", ["auto", "alternating", "full-power", "inversion"])
def test_noise_below_the_rounding_of_the_signal_is_no_obstacle(method, snr_db):
    rng = np.random.default_rng(5)
    for channel in (rayleigh(rng, 20, 8), np.tile(rayleigh(rng, 1, 3), (20, 1))):
        problem = optim.AirCompProblem(channel, 0.05, 1.0, 10 ** (-snr_db / 10))
        solution = optim.solve(problem, method)
        assert np.isfinite(solution.mse)
        solution.verify(problem)


def test_a_step_that_its_solver_calls_inaccurate_is_no_convergence(monkeypatch):
    from optim.solvers import conic, successive_convex

    def useless(program, solver):
        for variable in program.variables():
            variable.value = np.zeros(variable.shape)
        return "optimal_inaccurate"

    monkeypatch.setattr(conic, "solve_conic", useless)
    assert successive_convex.conic is conic
    problem = optim.AirCompProblem(rayleigh(np.random.default_rng(0), 5, 3), 0.2, 1.0, 0.1)
    assert optim.solve(problem, "sca").status is optim.Status.SOLVER_INACCURATE


def test_a_device_far_below_the_noise_leaves_silence_optimal_also_among_others():
    problem = receiver(devices=4, antennas=3)
    nobody = optim.solve(problem.replaced(channel=problem.channel * 1e-120))
    assert nobody.status is optim.Status.SILENT and nobody.gap < 1e-9
    one = np.array([1e-120, 1, 1, 1])[:, None]
    weak = optim.solve(problem.replaced(channel=problem.channel * one))
    lost = optim.solve(problem.replaced(channel=problem.channel * (one == 1)))
    assert weak.mse == lost.mse and weak.lower_bound == lost.lower_bound


@pytest.mark.parametrize("build", [receiver, combined])
def test_a_signal_beyond_all_numbers_names_what_to_check(build):
    problem = build()
    with pytest.raises(ValueError, match=r"channel: a device arrives .* times .* check the units"):
        optim.solve(replace(problem, noise_power_w=1e-300 * np.asarray(problem.noise_power_w)))


@pytest.mark.parametrize("field", ["starts", "max_iterations"])
def test_effort_is_a_whole_number(field):
    problem = optim.AirCompProblem(np.ones((2, 2)), 0.5, 1.0, 0.1)
    with pytest.raises(ValueError, match=f"{field} = 0 is not allowed: give a whole number"):
        optim.solve(problem, **{field: 0})
