"""From a scenario to the device on which torch computes: there, or refused."""

import re

import torch

from airsim.errors import ScenarioError, blaming
from airsim.scenario import Scenario


def build_torch_device(scenario: Scenario) -> torch.device:
    """The device that the scenario asks for; never another one in its place.

    Raises:
        ScenarioError: torch cannot compute there, in double precision as well, which statistics need.
    """
    name = scenario.learning.torch_device
    try:
        torch.ones(1, dtype=torch.float64, device=name).sum().item()
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = re.split(r"\.\s|\n", str(error).strip())[0].rstrip(".") or type(error).__name__
        with blaming("learning.torch_device"):
            raise ScenarioError(
                f"torch {torch.__version__} cannot compute on '{name}' here: {reason}; "
                "write cpu, or run it where this device is, with a torch that was built for it"
            ) from error
    return torch.device(name)
