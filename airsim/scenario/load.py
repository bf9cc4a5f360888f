"""From files and overrides to a scenario, with every error at its line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airsim.errors import ScenarioError
from airsim.scenario import files, messages, names, render, tree
from airsim.scenario.problems import Problem, dotted
from airsim.scenario.schema import Scenario
from airsim.scenario.tree import Layer
from optim import strict_yaml
from optim.strict_yaml import StrictYamlError


def load(source: str | Path, overrides: Mapping[str, Any]) -> Scenario:
    """The scenario of a file or of a bundled name, with `extends` followed and overrides on top."""
    return build(
        [*files.read(source), *(tree.override_layer(key, value) for key, value in overrides.items())]
    )


def build(layers: Sequence[Layer]) -> Scenario:
    """The scenario of layers, lowest first; a ScenarioError lists everything that is wrong with them."""
    data: dict[str, Any] = {}
    problems: list[Problem] = []
    for layer in layers:
        unreachable = _below_a_value(layer.override)
        problems += unreachable + [
            _unknown(path) for path in tree.null_paths(layer.data) if not _is_known(path)
        ]
        data = data if unreachable else tree.merge(data, layer.data)
    try:
        scenario = Scenario.model_validate(data).written_in(layers)
    except ValidationError as error:
        problems += messages.problems_of(error, Scenario)
    if problems:
        raise render.error_of(problems, layers)
    return scenario


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """The arguments of `-s`: `channel.snr=0 dB` -> {"channel.snr": "0 dB"}."""
    overrides: dict[str, Any] = {}
    for text in texts:
        key, value = parse_override(text)
        if key in overrides:
            raise ScenarioError(f"-s {text}: {key} is set twice\n    keep one of the two")
        overrides[key] = value
    return overrides


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of one `-s key=value`; the value is read as in a file."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        lacks = "an '='" if not equals else "a key"
        raise ScenarioError(
            f'-s {text}: lacks {lacks}\n    write -s key=value, for example -s channel.snr="0 dB"'
        )
    if not value.strip():
        raise ScenarioError(f"-s {text}: {key}: the value is empty\n    write -s {key}=null to leave it out")
    try:
        return key, strict_yaml.load(value.strip()).data
    except StrictYamlError as error:
        flaw = error.flaws[0]
        raise ScenarioError(f"-s {text}: {key}: {flaw.message}\n    {flaw.hint}") from None


def _below_a_value(override: tree.Path) -> list[Problem]:
    """Where an override names something inside a list or a plain value: those are given as a whole."""
    for length in range(1, len(override)):
        above = override[:length]
        if above != ("sweep", "grid") and names.fields_at(Scenario, above) == {}:
            message = f"{dotted(above)} is given as a whole: nothing below it can be named"
            return [
                Problem(
                    message, f"write -s {dotted(above)}=... with its whole value", override, names_key=True
                )
            ]
    return []


def _is_known(path: tree.Path) -> bool:
    if path[:2] == ("sweep", "grid") or path == ("extends",):
        return True
    return names.is_field(Scenario, path)


def _unknown(path: tree.Path) -> Problem:
    return messages.unknown_field(path, list(names.fields_at(Scenario, path[:-1]) or {}), Scenario)
