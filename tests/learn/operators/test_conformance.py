"""Every law of every method, as `airsim verify aggregation` runs them."""

import math

import pytest
from unchecked import unchecked

from airsim.learn.conformance.laws import LawResult
from airsim.learn.conformance.verify import verify_aggregation
from airsim.learn.operators.catalogue import METHODS


@pytest.fixture(scope="module")
def results():
    """Everything that the command runs."""
    return unchecked(everything)


def everything():
    return list(verify_aggregation())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_all_its_laws(results, method):
    own = [result for result in results if result.method.split(" ")[0] == method]
    assert own and not [result for result in own if not result.holds]


def test_an_error_that_is_no_number_does_not_hold():
    assert not LawResult("any", "law", math.nan).holds
    assert LawResult("any", "law", 1e-13).holds and not LawResult("any", "law", 1e-11).holds


def test_the_laws_cover_definitions_costs_truncations_and_exactness(results):
    laws = {}
    for result in results:
        laws.setdefault(result.law, set()).add(result.method.split(" ")[0])
    for law in ("equals its definition", "costs what its definition says"):
        assert laws[law] == set(METHODS)
    assert laws["loses nothing of the mean product"] == {"flora", "ffa-lora", "rolora", "fedex-lora"}
    assert laws["truncates as Eckart and Young"] == {"sp", "flexlora"}
