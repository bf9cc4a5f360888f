"""Every law of every method, as `airsim verify aggregation` runs them."""

import math

import pytest

from airsim.learn.conformance.cases import CASES
from airsim.learn.conformance.laws import LawResult, adapter_laws
from airsim.learn.conformance.model_laws import MODEL_CASES, airpfed_laws, model_laws
from airsim.learn.conformance.verify import verify_aggregation
from airsim.learn.operators.catalogue import METHODS


def kept(results):
    results = list(results)
    assert results and not [result for result in results if not result.holds]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}-{case.rounds[0]}")
def test_a_method_on_adapters_keeps_all_its_laws(case):
    kept(adapter_laws(case))


@pytest.mark.parametrize("case", MODEL_CASES, ids=lambda case: case.method)
def test_a_method_on_full_parameters_keeps_all_its_laws(case):
    kept(model_laws(case))


def test_airpfed_lora_steps_along_the_mean_gradients_of_all_and_of_each_task():
    kept(airpfed_laws())


def test_every_method_of_the_catalogue_is_verified():
    verified = {case.method.split(" ")[0] for case in CASES} | {case.method for case in MODEL_CASES}
    assert verified | {"airpfed-lora"} == set(METHODS)


def test_an_error_that_is_no_number_does_not_hold():
    assert not LawResult("any", "law", math.nan).holds
    assert LawResult("any", "law", 1e-13).holds and not LawResult("any", "law", 1e-11).holds


def test_what_the_command_runs_covers_definitions_costs_and_personal_parts():
    laws = {}
    for result in verify_aggregation():
        laws.setdefault(result.law, set()).add(result.method)
    assert (
        len(laws["equals its definition"]) == len(laws["costs what its definition says"]) == len(METHODS) + 1
    )
    assert laws["loses nothing of the mean product"] == {"flora", "ffa-lora", "rolora", "fedex-lora"}
    assert laws["truncates as Eckart and Young"] == {"sp", "flexlora"}
