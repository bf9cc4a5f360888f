"""Every law of every method, one after the other."""

from collections.abc import Iterator

from airsim.learn.conformance.cases import CASES
from airsim.learn.conformance.laws import LawResult, adapter_laws
from airsim.learn.conformance.model_laws import MODEL_CASES, airpfed_laws, model_laws


def verify_aggregation() -> Iterator[LawResult]:
    """What `airsim verify aggregation` prints, and what the tests require to hold."""
    for case in CASES:
        yield from adapter_laws(case)
    yield from airpfed_laws()
    for model_case in MODEL_CASES:
        yield from model_laws(model_case)
