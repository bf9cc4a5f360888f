"""Scenario files: strict YAML, checked in full before anything runs."""

from airsim.scenario.blame import locates_errors
from airsim.scenario.files import bundled_names
from airsim.scenario.load import parse_override, parse_overrides
from airsim.scenario.record import SUBJECT_OF
from airsim.scenario.schema import Scenario, Trial, get_path
from airsim.scenario.sweep import ResultColumn

__all__ = [
    "SUBJECT_OF",
    "ResultColumn",
    "Scenario",
    "Trial",
    "bundled_names",
    "get_path",
    "locates_errors",
    "parse_override",
    "parse_overrides",
]
