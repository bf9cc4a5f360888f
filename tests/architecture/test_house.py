"""Who may import whom: checked for the project, and shown to catch what it should."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")

# A line that must not stand where it stands, and the contract that says so.
VIOLATIONS = {
    "clock with arrays": ("airsim/des/timeline.py", "import numpy", "The clock never sees an array"),
    "clock with optimiser": ("airsim/des/device.py", "import optim", "The clock never sees an array"),
    "clock with arrays by a detour": (
        "airsim/des/messages.py",
        "import airsim.randomness",
        "The clock never sees an array",
    ),
    "optimiser with torch": ("optim/mse.py", "import torch", "optim stands alone"),
    "optimiser with simulator": ("optim/problem.py", "import airsim.errors", "optim stands alone"),
    "learning with radio": ("airsim/learn/cohort.py", "import airsim.radio", "The house"),
    "radio with learning": ("airsim/radio/air.py", "import airsim.learn", "The house"),
    "numbers with the clock": ("airsim/radio/air.py", "import simpy", "Numerics never see"),
    "numbers with the scenario": ("airsim/rounds.py", "import airsim.scenario", "The house"),
    "channel with torch": ("airsim/channel/fading.py", "import torch", "The channel is NumPy"),
    "scenario with solvers": ("airsim/scenario/load.py", "import optim.solvers", "Configuration is plain"),
    "scenario with torch": ("airsim/scenario/grid.py", "import torch", "Configuration stops at the door"),
    "scenario with the channel": (
        "airsim/scenario/grid.py",
        "import airsim.channel",
        "Configuration stops at the door",
    ),
    "numbers below with results above": ("airsim/build.py", "import airsim.simulate", "The house"),
}


def lint(folder):
    command = [str(LINTER), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    for package in ("airsim", "optim"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    return folder


def test_the_house_keeps_its_contracts(copy):
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda name: name.replace(" ", "-"))
def test_a_planted_violation_is_caught(copy, violation):
    file, line, contract = VIOLATIONS[violation]
    path = copy / file
    before = path.read_text()
    path.write_text(f"{before}\n\n{line}\n")
    try:
        result = lint(copy)
    finally:
        path.write_text(before)
    assert result.returncode != 0
    assert contract in result.stdout.split("Broken contracts")[-1]


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_airsim_loads_nothing_heavy():
    heavy = ("torch", "cvxpy", "matplotlib", "numpy")
    code = f"import sys, airsim\nprint([m for m in {heavy} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_help_loads_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['airsim', '--help']\n"
        "from airsim.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'cvxpy', 'matplotlib', 'scipy', 'numpy') if m in sys.modules])"
    )
    assert python(code).strip().endswith("[]")


def test_importing_optim_loads_neither_cvxpy_nor_the_simulator():
    heavy = ("torch", "cvxpy", "simpy", "airsim", "yaml")
    code = f"import sys, optim\nprint([m for m in {heavy} if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.benchmark
def test_the_help_answers_within_three_tenths_of_a_cpu_second():
    import resource

    airsim = Path(sys.executable).with_name("airsim")
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([airsim, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"airsim --help: {sorted(spent)[2]:.3f} s of CPU, median of 5 (goal: below 0.3)")


def test_only_the_names_of_the_api_are_public():
    import airsim

    assert airsim.__all__ == ["Scenario", "__version__", "run", "sweep"]
    assert all(hasattr(airsim, name) for name in airsim.__all__)
    with pytest.raises(AttributeError, match="has Scenario"):
        airsim.__getattr__("Scenarios")


def test_setup_lists_every_package_of_the_tree():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("airsim", "optim")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == found | {"airsim.presets"}


def test_no_file_is_longer_than_four_hundred_lines():
    files = [path for folder in ("airsim", "optim", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert {path.name: n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}
