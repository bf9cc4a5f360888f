"""The README's examples run as they stand there; its commands run with two rounds."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airsim.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md"]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_python_examples_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


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


def test_every_citation_of_the_code_is_in_the_list_of_references():
    known = set(re.findall(r"^\* \*\*\[(\w+)\]\*\*", (ROOT / "DESIGN.md").read_text(), flags=re.M))
    sources = [path for package in ("airsim", "optim") for path in (ROOT / package).rglob("*.py")]
    cited = {key for path in sources for key in re.findall(r"\[(Sun|[A-Z][a-z]+\d\d)\b", path.read_text())}
    assert cited and cited <= known
