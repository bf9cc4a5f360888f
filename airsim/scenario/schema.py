"""Everything that decides a result, and nothing that does not."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from airsim.errors import ScenarioError
from airsim.scenario import checks, grid, messages, method_checks, names, record_checks, tree
from airsim.scenario.aggregation import Aggregation
from airsim.scenario.channel import Allocation, Channel, Uplink
from airsim.scenario.fields import Count, Natural, Section, Slug
from airsim.scenario.learning import BaseFile, Learning
from airsim.scenario.network import Links, Network
from airsim.scenario.problems import raise_any
from airsim.scenario.record import Record
from airsim.scenario.sweep import Figure, Sweep
from airsim.scenario.texts import Transformer
from optim import quantity, strict_yaml


class Stop(Section):
    """When a run ends."""

    rounds: Count = 300


class Scenario(Section):
    """One validated scenario file; quantities are SI floats, defaults are filled in."""

    schema_version: Literal["airsim/1"] = Field(alias="schema")
    name: Slug
    seed: Natural = 0
    network: Network = Field(default_factory=Network)
    channel: Channel
    links: Links = Field(default_factory=Links)
    uplink: Uplink = Field(default_factory=Uplink)
    allocation: Allocation = Field(default_factory=Allocation)
    learning: Learning = Field(default_factory=Learning)
    aggregation: Aggregation = Field(default_factory=Aggregation)
    stop: Stop = Field(default_factory=Stop)
    record: Record = Field(default_factory=Record)
    sweep: Sweep | None = None
    figures: tuple[Figure, ...] = ()
    _sources: tree.Sources = PrivateAttr(default=tree.Sources())

    @classmethod
    def load(cls, source: str | FilePath, overrides: Mapping[str, Any] | None = None) -> "Scenario":
        """The scenario of a file, or of a bundled name such as `quickstart`, with overrides laid over it."""
        from airsim.scenario.load import load

        return load(source, overrides or {})

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "Scenario":
        """The scenario of plain data, written as in a file."""
        from airsim.scenario.load import build

        return build([tree.Layer("scenario", dict(data), {})])

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Scenario":
        """A copy with some values replaced: `{"channel.snr": "0 dB"}`; None takes a value out."""
        from airsim.scenario.load import build

        layers = [tree.override_layer(key, value) for key, value in overrides.items()]
        return build([tree.Layer(f"scenario {self.name}", self.written(), {}), *layers])

    @property
    def layers(self) -> tuple[tree.Layer, ...]:
        """Files and overrides that it was read from, lowest first; none for plain data."""
        return self._sources.layers

    def read_from(self, layers: Sequence[tree.Layer]) -> "Scenario":
        """The same scenario with the layers that it was read from."""
        read = self.model_copy()
        read._sources = tree.Sources(tuple(layers))
        return read

    @property
    def num_edge_servers(self) -> int:
        """One edge server per task."""
        return len(self.learning.data.tasks)

    @property
    def num_devices(self) -> int:
        """Devices of all tasks."""
        return self.num_edge_servers * self.network.devices.per_edge_server

    @property
    def devices_per_round(self) -> int:
        """Devices that take part in each round."""
        return self.learning.participation.of(self.num_devices)

    def written(self) -> dict[str, Any]:
        """What was written, in canonical text and without defaults: a file with it gives this scenario."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def resolved(self) -> dict[str, Any]:
        """All values in canonical text, defaults included; fields without a value are left out."""
        return tree.merge({}, self.model_dump(mode="json", by_alias=True))

    def resolved_yaml(self) -> str:
        """The lock file: reading it gives an equal scenario."""
        return strict_yaml.dump(self.resolved())

    def fingerprint(self, data_checksum: str, results_version: int, base_checksum: str | None = None) -> str:
        """A name for the results: equal for scenarios that decide the same numbers, 64 hex digits.

        Left out are `name`, `sweep`, `figures`, the number of a torch device (not its kind, which decides
        bits), and the path of a base model, which its checksum replaces.
        """
        decisive = {
            key: value for key, value in self.resolved().items() if key not in ("name", "sweep", "figures")
        }
        peak = quantity.format(self.network.devices.peak_power_w, quantity.POWER)
        decisive = tree.merge(decisive, {"network": {"devices": {"peak_power": peak}}})
        kind_of_device = self.learning.torch_device.partition(":")[0]
        decisive = tree.merge(decisive, {"learning": {"torch_device": kind_of_device}})
        model = self.learning.model
        if isinstance(model, Transformer) or isinstance(model.base, BaseFile):
            if base_checksum is None:
                raise ValueError(
                    "base_checksum is None: a scenario with a base file is named by the file's content"
                )
            content_of: dict[str, Any] = {"base": {"kind": "file", "path": base_checksum}}
            if isinstance(model, Transformer):
                content_of = {"network": base_checksum}
            decisive = tree.merge(decisive, {"learning": {"model": content_of}})
        content = {"scenario": decisive, "data": data_checksum, "results": results_version}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def trials(self) -> "tuple[Trial, ...]":
        """The runs of the sweep in order: the grid with its first key slowest, then the seeds."""
        sweep = self.sweep or Sweep()
        data = self._single()
        trials: list[Trial] = []
        for point_index, point in enumerate(grid.points(sweep.grid)):
            point_data = grid.at_point(data, point)
            for repeat_index in range(sweep.repeat):
                seed = self.seed + repeat_index + (0 if sweep.paired else point_index * sweep.repeat)
                scenario = Scenario.model_validate({**point_data, "seed": seed})
                values = {key: grid.shown(scenario.resolved(), key, value) for key, value in point.items()}
                trials.append(Trial(len(trials), values, scenario, seed))
        return tuple(trials)

    def _single(self) -> dict[str, Any]:
        return {key: value for key, value in self.written().items() if key not in ("sweep", "figures")}

    @model_validator(mode="after")
    def _check(self) -> "Scenario":
        problems = checks.task_problems(self.learning.data, self.network.devices)
        problems += method_checks.problems(self.aggregation, self.learning, self.uplink)
        problems += method_checks.participant_problems(self.aggregation, self.learning, self.num_devices)
        problems += record_checks.problems(self.record, self.aggregation)
        problems += record_checks.head_problems(self.record, self.aggregation, self.learning.model)
        problems += checks.figure_problems(self.figures, self.sweep)
        problems += record_checks.figure_problems(self.figures, self.sweep, self.record)
        if self.sweep is not None and not problems:
            problems = checks.key_problems(Scenario, self.sweep)
            problems = problems or checks.point_problems(Scenario, self._single(), self.sweep)
        raise_any(problems)
        return self


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its place in the order, the swept values for tables, and what to run."""

    index: int
    values: dict[str, Any]
    scenario: Scenario
    seed: int


def get_path(scenario: Scenario, key: str) -> Any:
    """A value by its dotted key, as it is written: `get_path(scenario, "channel.snr")` is `20 dB`."""
    path = tree.parts(key)
    if not names.is_field(Scenario, path):
        found = messages.unknown_field(path, list(names.fields_at(Scenario, path[:-1]) or {}), Scenario)
        raise ScenarioError(f"{key}: {found.message} ({found.hint})")
    return tree.value_at(scenario.resolved(), path)
