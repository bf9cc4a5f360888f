"""From a scenario to the step that receivers take."""

from airsim.learn.optimisers import AbstractOptimiser, AdamW, Momentum
from airsim.scenario import Scenario


def build_server_optimiser(scenario: Scenario) -> AbstractOptimiser | None:
    """What receivers step with; none for the plain steps that the method is published with."""
    server, rate = scenario.learning.server, scenario.learning.learning_rate
    if server.optimiser == "momentum":
        return Momentum(rate, server.momentum)
    if server.optimiser == "adam":
        return AdamW(rate, server.betas, server.epsilon)
    return None
