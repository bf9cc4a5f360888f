"""The README's examples run as they stand there; its commands run with two rounds."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airsim.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "optim/README.md"]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]


@pytest.mark.parametrize(
    ("page", "code"), EXAMPLES, ids=[f"{page.parent.name}-{n}" for n, (page, _) in enumerate(EXAMPLES)]
)
def test_python_examples_run(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


def test_every_command_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    commands = [
        line
        for block in blocks(ROOT / "README.md", "sh")
        for line in block.splitlines()
        if line.startswith("airsim ")
    ]
    assert {shlex.split(command)[1] for command in commands} == {"run", "sweep", "plot", "check"}
    for command in commands:
        arguments = shlex.split(command, comments=True)[1:]
        if arguments[0] in ("run", "sweep"):
            arguments += (
                ["-s", "stop.rounds=2", "-s", "sweep.repeat=1"]
                if arguments[0] == "sweep"
                else ["-s", "stop.rounds=2"]
            )
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}"


def test_links_to_files_of_the_project_exist():
    for page in [*PAGES, ROOT / "DESIGN.md", ROOT / "CONTRIBUTING.md", ROOT / "scenarios/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
