"""Uniform forcing: exact gains, its own relaxation, its place above the least error, what is impossible."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, InfeasibleError, Status
from optim.mse import effective_gains
from optim.solvers import lifted
from optim.solvers.forcing_programs import _lifted_forcing, _tangent_forcing
from optim.solvers.forcing_relaxation import forcing_bound
from tests.optim.instances import combined, estimated, rayleigh, receiver

METHODS = ["uniform-forcing-sdr", "uniform-forcing-sca", "uniform-forcing-dc"]
HARD = [(10, 4, 1), (10, 4, 2), (20, 8, 0)]  # devices, antennas, seed: the relaxation is loose


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("snr_db", [-20.0, 10.0, 40.0])
def test_every_gain_is_exactly_its_target_and_only_noise_remains(method, snr_db):
    problem = receiver(seed=1, devices=7, snr_db=snr_db)
    solution = optim.solve(problem, method)
    gains = effective_gains(problem, solution.design)
    np.testing.assert_allclose(gains, problem.target_gains, rtol=1e-12)
    noise = problem.noise_power_w * np.linalg.norm(solution.design.receive_beamformer) ** 2
    assert solution.mse == pytest.approx(noise, rel=1e-12)
    assert solution.at_power_limit.any()  # else a shorter beamformer would do


@pytest.mark.parametrize("devices, antennas, seed", HARD)
def test_refinements_lie_between_the_relaxation_and_the_design_they_start_from(devices, antennas, seed):
    problem = receiver(seed=seed, devices=devices, antennas=antennas, snr_db=20.0)
    drawn, tangents, difference = (optim.solve(problem, method) for method in METHODS)
    bound = forcing_bound(problem)
    for refined in (tangents, difference):
        assert bound <= refined.mse < drawn.mse
        assert refined.history[0] == pytest.approx(drawn.mse, rel=1e-9)
        assert refined.status in (Status.CONVERGED, Status.SOLVER_INACCURATE)
    assert difference.mse == pytest.approx(tangents.mse, rel=1e-2)


@pytest.mark.parametrize("devices, antennas", [(1, 1), (2, 4), (3, 2), (3, 5)])
def test_the_relaxation_is_exact_for_three_devices(devices, antennas):
    for seed in range(3):
        problem = receiver(seed=seed, devices=devices, antennas=antennas)
        drawn = optim.solve(problem, "uniform-forcing-sdr")
        assert drawn.mse == pytest.approx(forcing_bound(problem), rel=1e-4)


def test_one_antenna_is_inversion_of_the_weakest_device():
    problem = receiver(seed=2, devices=6, antennas=1)
    quality = problem.power_budget_w * np.abs(problem.channel[:, 0]) ** 2 / problem.target_gains**2
    for method in METHODS:
        assert optim.solve(problem, method).mse == pytest.approx(problem.noise_power_w / quality.min())


@pytest.mark.parametrize("method", METHODS)
def test_no_uniform_forcing_design_beats_the_least_error_or_the_relaxation(method):
    for seed in range(3):
        problem = receiver(seed=seed, devices=5, antennas=3, snr_db=15.0)
        solution = optim.solve(problem, method)
        best = optim.solve(problem, "branch-and-bound")
        assert solution.lower_bound <= best.mse * (1 + 1e-9)
        assert best.lower_bound <= solution.mse
        assert forcing_bound(problem) <= solution.mse
        assert forcing_bound(problem) <= optim.solve(problem, "inversion").mse


def test_the_least_error_approaches_uniform_forcing_as_misalignment_weighs_more():
    problem = receiver(seed=3, devices=3, antennas=3, snr_db=10.0)
    heavy = optim.solve(problem.replaced(misalignment_weight=1e6))
    assert heavy.noise_term == pytest.approx(optim.solve(problem, "uniform-forcing-sdr").mse, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_compiles_one_program(method):
    _lifted_forcing.cache_clear()
    _tangent_forcing.cache_clear()
    optim.solve(receiver(seed=4, devices=5, antennas=2, batch=(4,)), method)
    assert _lifted_forcing.cache_info().misses == 1
    assert _tangent_forcing.cache_info().misses == (method == "uniform-forcing-sca")


@pytest.mark.parametrize("method", METHODS)
def test_devices_that_differ_by_ten_orders_of_magnitude_are_all_heard(method):
    channel = rayleigh(np.random.default_rng(5), 5, 3) * 10.0 ** np.array([[-6], [-3], [0], [2], [4]])
    problem = AirCompProblem(channel, 0.2, 1.0, 0.1)
    gains = effective_gains(problem, optim.solve(problem, method).design)
    np.testing.assert_allclose(gains, 0.2, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lost", ["power_budget_w", "channel"])
def test_a_device_that_cannot_be_heard_is_named_with_the_way_out(method, lost):
    problem = receiver(seed=6, devices=4, batch=(2,))
    table = getattr(problem, lost).copy()
    table[1, 2] = 0
    with pytest.raises(InfeasibleError, match=f"device 2 of problem 1 .* {lost} is 0. Give it power"):
        optim.solve(problem.replaced(**{lost: table}), method)


@pytest.mark.parametrize("method", METHODS)
def test_who_has_no_target_need_not_be_heard(method):
    problem = receiver(seed=7, devices=4).replaced(target_gains=[0.5, 0.0, 0.2, 0.3])
    deaf = problem.channel.copy()
    deaf[1] = 0
    muted = problem.replaced(channel=deaf)
    assert optim.solve(muted, method).mse == pytest.approx(optim.solve(problem, method).mse, rel=1e-6)
    nobody = optim.solve(problem.replaced(target_gains=0.0), method)
    assert nobody.status is Status.SILENT and nobody.mse == 0


@pytest.mark.parametrize("method", METHODS)
def test_what_uniform_forcing_cannot_take_is_refused(method):
    with pytest.raises(ValueError, match="CombinedProblem couples several: use 'auto'"):
        optim.solve(combined(), method)
    with pytest.raises(ValueError, match="error_covariance is given.*use 'robust'"):
        optim.solve(estimated(), method)
    with pytest.raises(ValueError, match="device_antennas = 2"):
        optim.solve(
            AirCompProblem(rayleigh(np.random.default_rng(0), 3, 2, 2), 0.3, 1, 1, device_antennas=2), method
        )


def test_hermitian_coordinates_keep_inner_products_gains_and_trace():
    rng = np.random.default_rng(8)
    root, rows = rayleigh(rng, 4, 4), rayleigh(rng, 6, 4)
    hermitian = root @ root.conj().T
    coordinates = np.tensordot(lifted.hermitian_basis(4), hermitian.conj(), axes=2).real
    np.testing.assert_allclose(lifted.matrix(coordinates), hermitian, atol=1e-13)
    gains = np.einsum("ki,ij,kj->k", rows, hermitian, rows.conj()).real
    np.testing.assert_allclose(lifted.gain_coordinates(rows) @ coordinates, gains)
    assert lifted.trace_coordinates(4) @ coordinates == pytest.approx(np.trace(hermitian).real)
