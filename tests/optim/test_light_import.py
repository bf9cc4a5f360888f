"""`import optim` is light, and optim stands alone."""

import subprocess
import sys

import pytest

import optim

HEAVY = ("cvxpy", "torch", "simpy", "airsim", "matplotlib")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_optim_imports_nothing_heavy():
    assert not modules_after("import optim") & set(HEAVY)


def test_fast_methods_never_import_a_convex_solver():
    solve = "import optim; optim.solve(optim.AirCompProblem([[1, 2], [2, 1]], 0.5, 1, 0.1))"
    assert "cvxpy" not in modules_after(solve)


@pytest.mark.parametrize("name", optim.__all__)
def test_every_exported_name_exists(name):
    assert getattr(optim, name) is not None


def test_units_become_watts_and_ratios():
    assert optim.dbm(30) == pytest.approx(1.0)
    assert optim.db(20) == pytest.approx(100.0)
