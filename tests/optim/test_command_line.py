"""`python -m optim` as a user meets it: what it prints, what it writes, how it ends."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import optim
from optim import cli, strict_yaml
from tests.optim.instances import combined, receiver


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command line in an empty folder: exit code, output, complaints."""
    monkeypatch.chdir(tmp_path)
    optim.save_problem(receiver(), "p.yaml")

    def command(*arguments):
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_solve_prints_a_summary_and_writes_the_solution(run, tmp_path):
    code, said, _ = run("solve", "p.yaml", "--starts", "2", "--out", "s.json")
    problem = optim.load_problem("p.yaml")
    solution = optim.solve(problem, starts=2)
    assert code == 0
    assert said.startswith(f"6 devices, 3 receive antennas\nauto: error {solution.mse_db:.3f} dB")
    assert f"gap {solution.gap:.3g}" in said and solution.status.value in said
    assert f"power limit: {solution.at_power_limit.sum()} of 6" in said and "saved s.json" in said
    optim.load_solution("s.json").verify(problem)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.yaml", "s.json"]


def test_json_is_the_solution_itself(run):
    code, said, _ = run("solve", "p.yaml", "--json", "--method", "full-power", "--option", "tolerance=1e-5")
    tree = json.loads(said)
    assert code == 0 and tree["schema"] == "optim-solution/1"
    assert tree["method"] == "full-power" and tree["options"]["tolerance"] == 1e-5
    solution = optim.solve(receiver(), "full-power")
    assert tree["mse"] == solution.mse and tree["lower_bound"] == solution.lower_bound
    assert tree["status"] == solution.status.name and tree["status_sentence"] == solution.status.value
    np.testing.assert_array_equal(tree["power_dbm"], solution.power_dbm)
    np.testing.assert_array_equal(tree["at_power_limit"], solution.at_power_limit)


def test_a_silent_device_has_no_level_in_json(run):
    optim.save_problem(receiver().replaced(power_budget_w=0.0), "silent.json")
    code, said, _ = run("solve", "silent.json", "--json")
    assert code == 0 and json.loads(said)["power_dbm"] == [None] * 6


def test_a_batch_and_a_combined_problem_are_summed_up(run):
    optim.save_problem(receiver(batch=(3,)), "batch.npz")
    _, said, _ = run("solve", "batch.npz")
    assert said.startswith("3 problems: 6 devices") and "mean error" in said and "of 3:" in said
    optim.save_problem(combined(), "c.mat")
    _, said, _ = run("solve", "c.mat")
    assert said.startswith("5 devices, a base station with 4 antennas, 2 edge servers") and "Pi -" in said


def test_bound_is_what_every_solve_certifies_and_a_tolerance_loosens_it(run):
    code, said, _ = run("bound", "p.yaml", "--json")
    value = json.loads(said)["lower_bound"]
    assert code == 0 and value == pytest.approx(optim.solve(receiver()).lower_bound, rel=1e-3)
    assert f"{10 * np.log10(value):.3f} dB" in run("bound", "p.yaml")[1]
    loose = json.loads(run("bound", "p.yaml", "--json", "--tolerance", "inf")[1])["lower_bound"]
    assert (
        loose == pytest.approx(optim.lower_bound(receiver(), tolerance=np.inf), rel=1e-9) and loose <= value
    )
    assert run("bound", "p.yaml", "--tolerance", "0")[0] == 2


def test_every_method_has_a_line(run):
    code, said, _ = run("methods", "--json")
    lines = json.loads(said)
    assert code == 0 and list(lines) == list(optim.METHODS)
    assert all(line and line.endswith(".") for line in lines.values())
    assert "Freeze the phases" in run("methods")[1]


@pytest.mark.parametrize("kind", ["receiver", "combined"])
def test_an_example_is_a_problem_that_can_be_solved(run, tmp_path, kind):
    code, text, _ = run("example", kind)
    (tmp_path / "e.yaml").write_text(text)
    assert code == 0 and isinstance(strict_yaml.load(text).data, dict)
    assert run("solve", "e.yaml", "--starts", "1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "q.yaml"], "q.yaml: no such file\n    did you mean 'p.yaml'"),
        (["solve", "p.yaml", "--method", "phase"], "did you mean 'phase-mm'?"),
        (
            ["solve", "p.yaml", "--option", "tolerence=1"],
            "option 'tolerence' is unknown: did you mean 'tolerance'?",
        ),
        (["solve", "p.yaml", "--option", "tolerance"], "write name=value"),
        (["solve", "p.yaml", "--option", "max_iterations=1.5"], "write a whole number after the ="),
        (["solve", "p.yaml", "--starts", "0"], "starts = 0 is not allowed"),
        (["solve", "p.yaml", "--method", "threshold"], "threshold"),
        (
            ["solve", "p.yaml", "--out", "p.yaml"],
            "p.yaml: exists already\n    choose another --out, or overwrite",
        ),
        (["solve", "p.yaml", "--out", "s.txt"], "suffix '.txt' is unknown"),
        (["solve", "p.yaml", "--out", "no/s.json"], "there is no folder no"),
        (["compare", "p.yaml", "--methods", "auto,x"], "method = 'x' is unknown"),
        (["sovle", "p.yaml"], "invalid choice"),
        ([], "required"),
    ],
)
def test_bad_input_ends_with_two_and_the_way_out(run, tmp_path, arguments, message):
    code, said, complaint = run(*arguments)
    assert code == 2 and message in complaint and said == ""
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_force_overwrites(run):
    for arguments in ([], ["--force"]):
        assert run("solve", "p.yaml", "--out", "s.json", *arguments)[0] == 0
    assert run("solve", "p.yaml", "--out", "s.json")[0] == 2


def test_an_infeasible_problem_ends_with_four_and_an_interrupt_with_130(run, monkeypatch):
    for error, code in ((optim.InfeasibleError("device 2 needs 3 W"), 4), (KeyboardInterrupt(), 130)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(cli, "solve", fail)
        assert run("solve", "p.yaml", "--out", "s.json")[0] == code
        assert not os.path.exists("s.json")


def test_compare_prints_a_line_for_every_method_asked_for(run):
    lines = run("compare", "p.yaml", "--methods", "auto, inversion")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["method", "auto", "inversion"]
    rows = json.loads(run("compare", "p.yaml", "--json")[1])["rows"]
    assert [row["method"] for row in rows] == ["auto", "alternating", "full-power", "inversion"]
    assert all(row["gap"] >= 0 for row in rows)


def test_airsim_optim_is_the_same(run):
    from airsim.cli import app

    result = CliRunner().invoke(app, ["optim", "bound", "p.yaml", "--json"])
    assert result.exit_code == 0 and result.output == run("bound", "p.yaml", "--json")[1]
    assert CliRunner().invoke(app, ["optim", "solve", "q.yaml"]).exit_code == 2
    assert "airsim optim solve" in CliRunner().invoke(app, ["optim", "solve", "--help"]).output


def test_the_module_runs_as_a_program_without_a_convex_solver(run, tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['optim', 'solve', 'p.yaml', '--out', 's.yaml']\n"
        "try:\n    runpy.run_module('optim', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('cvxpy', 'scipy', 'torch', 'airsim') if m in sys.modules])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0].startswith("6 devices") and done.stdout.endswith("[]\n")
    help_text = subprocess.run(
        [sys.executable, "-m", "optim", "--help"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert help_text.startswith("usage: python -m optim") and "solve" in help_text


@pytest.fixture
def without(monkeypatch):
    """Makes optional packages, and what was imported with them, unavailable."""

    def hide(*packages):
        for name in list(sys.modules):
            imported = name.partition(".")[0] in packages
            convex = "cvxpy" in packages and hasattr(sys.modules[name], "cp") and name.startswith("optim.")
            if imported or convex or name == "optim.strict_yaml":
                monkeypatch.delitem(sys.modules, name)
        if "yaml" in packages:
            monkeypatch.delattr("optim.strict_yaml", raising=False)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return hide


def test_methods_are_listed_without_the_optional_packages(run, without):
    without("cvxpy", "scipy")
    code, said, _ = run("methods")
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert code == 0 and set(lines) == set(optim.METHODS)
    assert lines["sdr"].startswith("needs cvxpy, which is not installed")


@pytest.mark.parametrize(
    "packages, arguments, said",
    [
        (("cvxpy",), ("solve", "p.json", "--method", "sdr"), "pip install cvxpy"),
        (("cvxpy",), ("compare", "p.json", "--methods", "auto,sca"), "pip install cvxpy"),
        (("yaml",), ("solve", "p.yaml"), "pip install PyYAML"),
        (("scipy",), ("solve", "p.json", "--out", "s.mat"), "pip install scipy"),
    ],
)
def test_a_missing_package_is_named_with_the_way_out(run, without, packages, arguments, said):
    optim.save_problem(receiver(), "p.json")
    without(*packages)
    code, _, complaint = run(*arguments)
    assert code == 2 and said in complaint


def test_a_bound_that_leaves_out_devices_says_so(run, monkeypatch):
    for module in ("optim.summary", "optim.solution"):
        monkeypatch.setattr(f"{module}.LARGEST_SYSTEM", 5)
    optim.save_problem(receiver(devices=12, antennas=6), "p.json")
    assert "valid, but may be far below" in run("solve", "p.json", "--method", "phase-mm")[1]
    assert "valid, but may be far below" in run("bound", "p.yaml")[1]
    assert json.loads(run("bound", "p.yaml", "--json")[1])["bound_is_loose"]
    robust = optim.solve(receiver().replaced(error_covariance=optim.ErrorCovariance(0.01)), "robust")
    assert robust.bound_is_loose
    assert not optim.solve(receiver(antennas=1)).bound_is_loose  # the error meets it
