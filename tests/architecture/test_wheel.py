"""What is shipped: the wheel carries both packages, the scenarios and the figure style."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "airsim", "optim", "scenarios")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from a copy of the sources and unpacked into an empty folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for part in PARTS:
        path = ROOT / part
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / part)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(target),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def python(installed, code):
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=installed).stdout.strip()


def test_bundled_scenarios_are_found_without_the_clone(installed):
    code = "import airsim; print(airsim.__file__, airsim.Scenario.load('quickstart').name)"
    file, name = python(installed, code).split()
    assert Path(file).is_relative_to(installed) and name == "quickstart"


def test_the_style_the_examples_and_the_type_markers_are_shipped(installed):
    files = (
        "airsim/report/ieee.mplstyle",
        "airsim/py.typed",
        "optim/py.typed",
        "optim/examples/receiver.yaml",
    )
    for file in files:
        assert (installed / file).is_file(), file


def test_optim_works_where_torch_and_simpy_cannot_be_imported(installed):
    code = (
        "sys.modules.update(dict.fromkeys(('torch', 'simpy', 'airsim')))\n"
        "import numpy as np, optim\n"
        "problem = optim.AirCompProblem(np.ones((1, 1)), [1.0], [2.0], 1.0)\n"
        "print(round(optim.solve(problem).mse, 12))"
    )
    assert float(python(installed, code)) == pytest.approx(1 / 3)  # omega^2 / (1 + P |h|^2 / sigma^2)


def test_nothing_but_the_packages_is_shipped(installed):
    top = {
        path.name for path in installed.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")
    }
    assert top == {"airsim", "optim"}
