"""What is saved comes back bit by bit, whole or not at all."""

import os
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from scipy import io

import optim
from optim import AirCompProblem, ErrorCovariance, FileError, SolverOptions
from optim.files import atomic
from tests.optim.instances import combined, rayleigh, receiver

SUFFIXES = ["yaml", "json", "npz", "mat"]


def robust(batch=()):
    rng = np.random.default_rng(5)
    factor = rayleigh(rng, 3, 3)
    covariance = ErrorCovariance(rng.uniform(size=4), factor @ factor.conj().T)
    return receiver(devices=4, batch=batch).replaced(error_covariance=covariance, misalignment_weight=3.0)


def several_antennas():
    channel = rayleigh(np.random.default_rng(1), 3, 4, 2)
    return AirCompProblem(channel, 0.5, 1.0, 0.1, device_antennas=2)


def odd_numbers():
    """Signed zeros, the smallest double, thirds and powers that print long."""
    channel = np.array([[complex(-0.0, -0.0), 5e-324], [1 / 3, 1e-300j]])
    return AirCompProblem(channel, [0.1 + 0.2, 0.0], [0.0, 10 ** (2.3 - 3)], 1e-13 / 3)


PROBLEMS = {
    "single": receiver,
    "one device": lambda: receiver(devices=1),
    "one antenna": lambda: receiver(antennas=1),
    "batch": lambda: receiver(batch=(3,)),
    "batch of one": lambda: receiver(batch=(1,)),
    "as many problems as devices": lambda: receiver(devices=3, batch=(3,)),
    "two batch axes": lambda: receiver(antennas=1, batch=(2, 3)),
    "no devices": lambda: AirCompProblem(np.zeros((0, 3)), [], [], 1.0),
    "no problems": lambda: receiver(batch=(0,)),
    "robust": robust,
    "robust batch": lambda: robust((2,)),
    "several antennas": several_antennas,
    "odd numbers": odd_numbers,
    "combined": combined,
    "combined with deviations": lambda: combined(std=(np.linspace(0.5, 1, 5), np.ones(5))),
    "combined with an empty task": lambda: combined(tasks=(4, 0)),
    "combined with one task": lambda: combined(tasks=(1,), antennas=(1, 1)),
}


def assert_same_bits(one, other):
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            assert_same_bits(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same_bits(left, right)
    elif isinstance(one, np.ndarray | float):
        left, right = np.asarray(one), np.asarray(other)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()
    else:
        assert one == other


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_saved_problem_comes_back_bit_by_bit(tmp_path, name, suffix):
    problem, path = PROBLEMS[name](), tmp_path / f"p.{suffix}"
    optim.save_problem(problem, path)
    assert_same_bits(optim.load_problem(path), problem)


SOLVED = {
    "single": receiver,
    "one device": lambda: receiver(devices=1, antennas=1),
    "batch": lambda: receiver(devices=3, batch=(3,)),
    "batch of one": lambda: receiver(batch=(1,)),
    "two batch axes": lambda: receiver(devices=2, antennas=2, batch=(2, 2)),
    "weighted": lambda: receiver().replaced(misalignment_weight=3.0),
    "silent": lambda: receiver(devices=2).replaced(power_budget_w=[0.0, 1.0]),
    "combined": combined,
    "combined with one task": lambda: combined(tasks=(2,)),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", SOLVED)
def test_a_saved_solution_comes_back_bit_by_bit_and_holds(tmp_path, name, suffix):
    problem, path = SOLVED[name](), tmp_path / f"s.{suffix}"
    solution = optim.solve(problem, starts=1)
    optim.save_solution(solution, path, "auto", SolverOptions(starts=1))
    loaded = optim.load_solution(path)
    loaded.verify(problem)
    assert_same_bits(plain_floats(loaded), plain_floats(solution))


def plain_floats(solution):
    """Zero-dimensional arrays and NumPy scalars as floats; solvers may give either."""
    parts = {field.name: getattr(solution, field.name) for field in fields(solution)}
    scalars = {
        n: float(v) for n, v in parts.items() if isinstance(v, np.ndarray | np.generic) and v.ndim == 0
    }
    histories = parts["history"]
    scalars["history"] = tuple(tuple(row) if isinstance(row, list | tuple) else row for row in histories)
    return replace(solution, **scalars)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_format_turns_into_another_without_loss(tmp_path, suffix):
    problem = robust((2,))
    for step in (suffix, *SUFFIXES, suffix):
        optim.save_problem(problem, tmp_path / f"p.{step}")
        problem = optim.load_problem(tmp_path / f"p.{step}")
    assert_same_bits(problem, robust((2,)))


def test_a_problem_from_matlab_may_have_rows_columns_cells_and_whole_doubles(tmp_path):
    problem = combined()
    cells = np.empty((1, 2), object)
    members = np.empty((1, 2), object)
    for task in range(2):
        cells[0, task] = problem.edge_channels[task]
        members[0, task] = problem.members[task].astype(float)[:, None]
    variables = {
        "kind": "combined",
        "base_station_channel": problem.base_station_channel,
        "edge_channels": cells,
        "members": members,
        "data_sizes": problem.data_sizes[:, None],
        "rank_shared": 6.0,
        "rank_personal": 2.0,
        "average_power_w": problem.average_power_w[None, :],
        "peak_power_w": 4.0,
        "noise_power_w": problem.noise_power_w[:, None],
    }
    io.savemat(tmp_path / "p.mat", variables)
    assert_same_bits(optim.load_problem(tmp_path / "p.mat"), problem)


def arrays(**changes):
    return {
        "channel": np.ones((3, 2)),
        "target_gains": 1.0,
        "power_budget_dbm": 20.0,
        "noise_power_w": 1,
    } | changes


WRONG_ARRAYS = {
    "no unit": (
        {"channel": np.ones((3, 2)), "target_gains": 1.0, "power_budget_w": 1.0, "noise_power": 3.0},
        "noise_power: has no unit",
        "noise_power_w for watts or noise_power_dbm",
    ),
    "unknown": (arrays(chanel=3.0), "chanel: unknown field", "did you mean 'channel'"),
    "complex target": (arrays(target_gains=1j), "target_gains: holds complex numbers", "give real ones"),
    "shape": (arrays(target_gains=[1.0, 2.0]), "target_gains has shape (2,), which does not fit (3,)"),
    "nan": (arrays(channel=np.full((3, 2), np.nan)), "channel[0, 0] = nan"),
    "truth": (arrays(target_gains=True), "target_gains: holds true and false"),
    "text": (arrays(target_gains="x"), "target_gains: the text 'x' is no number"),
    "flat covariance": (arrays(error_covariance__scales=1.0), "error_covariance__scales: unknown field"),
    "clash": (arrays(error_covariance=1.0, error_covariance__scale=1.0), "and a part of it are both arrays"),
}


# MAT files store true as 1.
@pytest.mark.parametrize(
    ("case", "suffix"),
    [
        (case, suffix)
        for case in WRONG_ARRAYS
        for suffix in ("npz", "mat")
        if (case, suffix) != ("truth", "mat")
    ],
)
def test_what_cannot_be_used_in_an_array_file_is_said_by_name(tmp_path, monkeypatch, case, suffix):
    monkeypatch.chdir(tmp_path)
    content, *said = WRONG_ARRAYS[case]
    if suffix == "npz":
        np.savez("p.npz", **content)
    else:
        io.savemat("p.mat", content)
    with pytest.raises(FileError) as caught:
        optim.load_problem(f"p.{suffix}")
    assert str(caught.value).startswith(f"p.{suffix}: ")
    for part in said:
        assert part in str(caught.value)


def test_array_files_that_cannot_be_read_are_refused(tmp_path):
    ragged = np.array([1, "a", None], dtype=object)
    np.savez(tmp_path / "objects.npz", channel=ragged)
    np.savez(tmp_path / "gap.npz", edge_channels__1=1.0)
    optim.save_problem(receiver(), tmp_path / "cut.npz")
    optim.save_problem(receiver(), tmp_path / "cut.mat")
    for name in ("cut.npz", "cut.mat"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.npz").write_bytes(b"noise")
    (tmp_path / "noise.mat").write_bytes(bytes(range(256)) * 2)
    (tmp_path / "empty.mat").write_bytes(b"")
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    io.savemat(tmp_path / "struct.mat", {"channel": {"re": 1.0}})
    for name, message in {
        "objects.npz": "channel: holds Python objects",
        "gap.npz": "edge_channels__0 is missing",
        "cut.npz": "cannot be read as NPZ",
        "cut.mat": "cannot be read as MAT",
        "noise.npz": "cannot be read as NPZ",
        "noise.mat": "cannot be read as MAT",
        "empty.mat": "cannot be read as MAT",
        "new.mat": "version 7.3 .HDF5., which is not read\n    save it with the option '-v7'",
        "struct.mat": "channel: is a struct",
    }.items():
        with pytest.raises(FileError, match=message):
            optim.load_problem(tmp_path / name)


def test_a_file_that_is_no_solution_is_refused(tmp_path):
    optim.save_problem(receiver(), tmp_path / "p.json")
    with pytest.raises(FileError, match="is no solution: schema is the text 'optim-problem/1'"):
        optim.load_solution(tmp_path / "p.json")
    optim.save_solution(optim.solve(receiver()), tmp_path / "s.json")
    text = (tmp_path / "s.json").read_text()
    for before, after, message in [
        ('"status": "', '"status": "X', r"s.json:5: status: the text 'X\w+' is no status"),
        ('"noise_term": ', '"noise": ', "noise_term is missing"),
        ('"noise_term": ', '"noise_term": "x", "_": ', "noise_term: the text 'x' is no number"),
        ('"receive_beamformer"', '"receiver"', "design: receive_beamformer is missing"),
        ('"history": [', '"history": ["x", ', "history: is no table of numbers"),
    ]:
        (tmp_path / "s.json").write_text(text.replace(before, after))
        with pytest.raises(FileError, match=message):
            optim.load_solution(tmp_path / "s.json")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_write_that_fails_before_the_rename_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch, error):
    path = tmp_path / "p.json"
    path.write_text("old")

    def fail(*_):
        raise error

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(error):
        optim.save_problem(receiver(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]
    assert path.read_text() == "old"


def test_a_process_killed_between_write_and_rename_leaves_nothing_under_the_name(tmp_path):
    code = (
        "import os, pathlib, signal, optim\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "optim.save_problem(optim.AirCompProblem([[1, 2]], 1, 1, 1), 'p.json')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -9
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".tmp")] == []


def test_what_is_no_problem_or_solution_is_refused_before_anything_is_written(tmp_path):
    # In a process of its own: here the type checker would refuse it first.
    script = """
import optim
from tests.optim.instances import combined, receiver
blocks = optim.MultiBlockProblem((combined(),))
for call in (
    lambda: optim.save_problem(blocks, "p.json"),
    lambda: optim.save_problem(optim.solve(receiver()), "p.json"),
    lambda: optim.save_solution(receiver(), "p.json"),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    several, design, problem = run.stdout.splitlines()
    assert "several blocks has no file form: save each of `problem.blocks`" in several
    assert "problem is a Solution: give an AirCompProblem or a CombinedProblem" in design
    assert "solution is a AirCompProblem: give what `solve` returned" in problem
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match="there is no folder .*missing"):
        optim.save_problem(receiver(), tmp_path / "missing" / "p.json")
