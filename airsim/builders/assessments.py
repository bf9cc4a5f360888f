"""From a scenario to what its run measures."""

from airsim.assessment import Assessment
from airsim.errors import ScenarioError
from airsim.learn.data.tasks import FederatedData
from airsim.learn.evaluation import HeadPolicy, tested_samples
from airsim.scenario import Scenario

HEAD_POLICIES = {"tested-task": HeadPolicy.TESTED_TASK, "own-task": HeadPolicy.OWN_TASK}


def build_assessment(scenario: Scenario, data: FederatedData) -> Assessment:
    """What is evaluated, on these data.

    Raises:
        ScenarioError: devices are to be judged, and one has only classes that are not tested.
    """
    record = scenario.record
    if "devices" in record.also_evaluate:
        for device in range(len(data.devices)):
            if not tested_samples(data, device).any():
                raise ScenarioError(
                    f"record.also_evaluate: device {device} has only classes without test samples, so it has "
                    "no accuracy; take more of them (learning.data.test_images), or leave devices out"
                )
    return Assessment(record.also_evaluate, HEAD_POLICIES[record.head_policy])
