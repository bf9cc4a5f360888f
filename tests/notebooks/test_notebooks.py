"""Every notebook runs from top to bottom, cell by cell."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    """In a process of its own, as a user would: without the shape checks of the tests."""
    script = tmp_path / f"{path.stem}.py"
    script.write_text("\n".join(code_cells(path)))
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(path.parents[1])}
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_no_functions(path):
    nodes = [node for source in code_cells(path) for node in ast.walk(ast.parse(source))]
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes)
