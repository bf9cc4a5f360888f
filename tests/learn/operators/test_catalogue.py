"""The catalogue and the commands that print and verify it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airsim.cli import app
from airsim.learn.conformance.laws import LawResult
from airsim.learn.operators.base import AbstractAggregationOperator, OnAir
from airsim.learn.operators.catalogue import METHODS
from airsim.learn.operators.common_heads import WithCommonHeads, WithPersonalHeads
from airsim.report import verification

ROOT = Path(__file__).parents[3]
PUBLISHED = [
    *("ps", "fedit", "sp", "flexlora", "flora", "zero-padding", "hetlora", "rbla", "ffa-lora", "rolora"),
    *("fedsa-lora", "fedex-lora", "lora-fair", "colr", "lora-a2", "fedinc", "airpfed-lora"),
    *("fedavg", "fedprox", "scaffold", "moon"),
]
NONLINEAR = {"sp", "sp-base-dropping", "flexlora", "flora", "fedex-lora", "lora-fair", "fedinc"}


@pytest.fixture
def airsim(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def references():
    text = (ROOT / "DESIGN.md").read_text().split("## References")[1]
    return set(re.findall(r"^\* \*\*\[(.+?)\]\*\*", text, flags=re.MULTILINE))


def test_every_published_method_has_an_entry_and_the_on_air_classes_are_those_of_the_definitions():
    assert set(METHODS) == {*PUBLISHED, "sp-base-dropping"}
    assert {name for name, method in METHODS.items() if method.on_air is OnAir.NONLINEAR} == NONLINEAR
    masked = {name for name, method in METHODS.items() if method.on_air is OnAir.MASKED}
    assert masked == {"zero-padding", "rbla", "hetlora", "lora-a2"}


def test_every_source_is_among_the_references_of_the_design():
    assert {method.key for method in METHODS.values()} <= references()
    for path in (ROOT / "airsim/learn").rglob("*.py"):
        sources = re.findall(r"(?:Source:|option II of|Table 2 of|,) \[([A-Z][\w-]+)\]", path.read_text())
        assert set(sources) <= references(), path


def test_every_operator_of_the_package_stands_in_the_catalogue():
    def final(operator):
        below = operator.__subclasses__()
        return {operator} if not below else set().union(*map(final, below))

    ours = {cls for cls in final(AbstractAggregationOperator) if cls.__module__.startswith("airsim.")}
    beside_a_method = {WithCommonHeads, WithPersonalHeads}
    assert ours - beside_a_method <= {method.operator for method in METHODS.values()}


def test_the_table_names_every_method_with_its_class_and_costs(airsim):
    result = airsim("methods")
    assert result.exit_code == 0
    for name, method in METHODS.items():
        line = next(line for line in result.output.splitlines() if f"│ {name} " in line)
        assert method.on_air.name.lower() in line and method.upload in line and method.broadcast in line


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_is_printed_in_full(airsim, name):
    result = airsim("methods", name)
    assert result.exit_code == 0
    told = " ".join(result.output.replace("│", " ").split())
    method = METHODS[name]
    for text in (
        method.definition,
        method.trains,
        f"[{method.key}]",
        method.operator.__name__,
        method.reading,
    ):
        assert " ".join(text.split()) in told


def test_a_misspelt_method_is_answered_with_the_nearest_name(airsim):
    result = airsim("methods", "flexlore")
    assert result.exit_code == 2 and "did you mean flexlora?" in result.output


def test_verification_prints_one_line_per_law_and_ends_well(airsim, monkeypatch):
    kept = LawResult("ps", "equals its definition", 1e-16)
    monkeypatch.setattr(verification, "verify_aggregation", lambda: iter([kept]))
    result = airsim("verify", "aggregation")
    assert result.exit_code == 0 and "1 laws hold, 0 are broken" in result.output
    assert re.search(r"ok +ps +equals its definition +1\.0e-16 \(at most 1e-12\)", result.output)


def test_verification_fails_where_a_law_is_broken(airsim, monkeypatch):
    broken = LawResult("fedsa-lora", "personal B stays on its device", 3.0, 0.0)
    monkeypatch.setattr(verification, "verify_aggregation", lambda: iter([broken]))
    result = airsim("verify", "aggregation")
    assert result.exit_code == 3
    assert re.search(r"BROKEN fedsa-lora +personal B .* 3\.0e\+00 \(must be 0\)", result.output)
