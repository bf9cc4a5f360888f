"""From a scenario to its rounds: who takes part, how receivers step, and what is measured."""

from airsim.assessment import Assessment
from airsim.errors import ScenarioError, blaming
from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import HeadPolicy, tested_samples
from airsim.learn.optimisers import AbstractOptimiser, AdamW, Momentum
from airsim.participation import ParticipantDraw
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario

HEAD_POLICIES = {"tested-task": HeadPolicy.TESTED_TASK, "own-task": HeadPolicy.OWN_TASK}


def build_draw(scenario: Scenario) -> ParticipantDraw | None:
    """Who takes part in which round; none where all do."""
    present = scenario.devices_per_round
    if present == scenario.num_devices:
        return None
    return ParticipantDraw(scenario.num_devices, present, RandomStreams(scenario.seed))


def build_server_optimiser(scenario: Scenario) -> AbstractOptimiser | None:
    """What receivers step with; none for the plain steps that the method is published with."""
    server, rate = scenario.learning.server, scenario.learning.learning_rate
    if server.optimiser == "momentum":
        return Momentum(rate, server.momentum)
    if server.optimiser == "adam":
        return AdamW(rate, server.betas, server.epsilon)
    return None


def build_assessment(scenario: Scenario, data: FederatedData) -> Assessment:
    """What is evaluated, on these data.

    Raises:
        ScenarioError: devices are to be judged, and one has only classes that are not tested.
    """
    record = scenario.record
    if "devices" in record.also_evaluate:
        with blaming("record.also_evaluate", "learning.data.test_images"):
            _require_tested_classes(data)
    return Assessment(record.also_evaluate, HEAD_POLICIES[record.head_policy])


def _require_tested_classes(data: FederatedData) -> None:
    for device in range(len(data.devices)):
        if not tested_samples(data, device).any():
            raise ScenarioError(
                f"device {device} has only classes without test samples, so it has no accuracy; "
                "take more of them (learning.data.test_images), or leave devices out"
            )
