"""Any installed cvxpy solver by name; a failure or a stand-in is told."""

import cvxpy as cp
import pytest

import optim
from optim import Status
from optim.solvers import conic, relaxation, tangents
from tests.optim.instances import combined, receiver

CONVEX = ["sca", "sdr", "uniform-forcing-sdr", "uniform-forcing-sca", "uniform-forcing-dc"]


@pytest.mark.parametrize("method", CONVEX)
def test_another_solver_finds_the_same_design(method):
    problem = receiver(seed=1, devices=3, antennas=2)
    other = optim.solve(problem, method, conic_solver="scs")
    assert other.mse == pytest.approx(optim.solve(problem, method).mse, rel=1e-3)


@pytest.mark.parametrize("method", CONVEX)
def test_a_solver_that_is_not_installed_is_refused_with_those_that_are(method):
    with pytest.raises(ValueError, match="conic_solver = 'NONE' is not installed: choose from CLARABEL, "):
        optim.solve(receiver(), method, conic_solver="NONE")


@pytest.mark.parametrize("make", [receiver, combined])
def test_a_solver_without_the_right_cones_is_refused(make):
    if "OSQP" not in cp.installed_solvers():
        pytest.skip("needs OSQP")
    with pytest.raises(ValueError, match="conic_solver = 'OSQP' cannot solve this method's programs"):
        optim.solve(make(), "sdr", conic_solver="OSQP")


@pytest.mark.parametrize("method", CONVEX)
@pytest.mark.parametrize("solver, status", [("", Status.SOLVER_REPLACED), ("CLARABEL", Status.INFEASIBLE)])
def test_a_failing_solver_is_told_and_replaced_only_where_none_was_asked_for(
    method, solver, status, monkeypatch
):
    solve = cp.Problem.solve

    def without_clarabel(program, solver, **settings):
        if solver == cp.CLARABEL:
            raise cp.SolverError("out of order")
        return solve(program, solver=solver, **settings)

    monkeypatch.setattr(conic.cp.Problem, "solve", without_clarabel)
    problem = receiver(seed=2, devices=5, antennas=2)
    solution = optim.solve(problem, method, conic_solver=solver)
    solution.verify(problem)
    assert solution.status in (status, Status.SOLVER_INACCURATE if not solver else status)


@pytest.mark.parametrize(
    "method, receivers, combineds",
    [
        ("sdr", relaxation._receiver_program, relaxation._combined_program),
        ("sca", tangents._compiled_receiver, tangents._compiled_combined),
    ],
)
def test_programs_of_one_shape_are_compiled_once(method, receivers, combineds):
    receivers.cache_clear()
    combineds.cache_clear()
    optim.solve(receiver(seed=3, devices=5, antennas=2, batch=(3,)), method, starts=1)
    assert receivers.cache_info().misses == 1
    for seed in (4, 4):
        optim.solve(combined(seed=seed), method, starts=1)
    assert combineds.cache_info().misses == 1


@pytest.mark.parametrize("method", ["sdr", "sca"])
@pytest.mark.parametrize("make", [receiver, combined])
def test_a_program_forgets_what_it_solved_before(make, method):
    problem = make(seed=5)
    first = optim.solve(problem, method, starts=2)
    optim.solve(make(seed=6, snr_db=-20.0), method, starts=2)
    again = optim.solve(problem, method, starts=2)
    assert again.lower_bound == first.lower_bound
    assert again.history == first.history
