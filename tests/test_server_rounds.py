"""Server optimisers in whole runs: from the scenario's words to the adapters."""

import pytest
import torch

from airsim import Scenario
from airsim.build import build_simulation
from airsim.errors import ScenarioError
from airsim.learn.adapters import flatten


def rows_of(adapters):
    return [flatten(adapters.shared), *flatten(adapters.personal)]


def played(engine, rounds=2):
    """The engine after some rounds, and the aggregates that it stepped along."""
    seen = []
    step = engine.learner.operator.step

    def noted(adapters, memory, heard):
        seen.append([heard.shared, *heard.personal])
        return step(adapters, memory, heard)

    object.__setattr__(engine.learner.operator, "step", noted)
    for index in range(rounds):
        engine.begin(index, range(8))
        engine.finish(index)
    return engine, seen


@pytest.mark.parametrize(
    "uplink, server, peer",
    [
        ("error-free", {"optimiser": "sgd"}, lambda leaves: torch.optim.SGD(leaves, lr=0.02)),
        (
            "aircomp",
            {"optimiser": "momentum", "momentum": 0.7},
            lambda leaves: torch.optim.SGD(leaves, lr=0.02, momentum=0.7),
        ),
        (
            "aircomp",
            {"optimiser": "adam", "betas": [0.8, 0.99], "epsilon": 1e-4},
            lambda leaves: torch.optim.Adam(leaves, lr=0.02, betas=(0.8, 0.99), eps=1e-4),
        ),
    ],
)
def test_a_run_steps_as_torch_does_on_what_its_receivers_heard(scenario, uplink, server, peer):
    config = scenario(uplink__mode=uplink, learning__server=server, learning__learning_rate=0.02)
    engine = build_simulation(config).engine
    leaves = [row.clone().requires_grad_() for row in rows_of(engine.adapters)]
    engine, seen = played(engine)
    stepper = peer(leaves)
    for round_gradients in seen:
        for leaf, gradient in zip(leaves, round_gradients, strict=True):
            leaf.grad = gradient.to(leaf.dtype)
        stepper.step()
    for have, want in zip(rows_of(engine.adapters), leaves, strict=True):
        torch.testing.assert_close(have, want.detach(), rtol=1e-5, atol=1e-6)


def test_a_server_optimiser_is_refused_where_no_gradient_arrives():
    changes = {
        "aggregation.method": "ps",
        "learning.adapters.personal_rank": 0,
        "learning.server.optimiser": "adam",
    }
    with pytest.raises(ScenarioError, match=r"learning\.server\.optimiser: ps averages") as raised:
        Scenario.load("quickstart", changes)
    assert "leave learning.server out, or choose airpfed-lora" in str(raised.value)


@pytest.mark.parametrize(
    "server, said",
    [
        ({"optimiser": "adamw"}, "adam"),
        ({"momentum": 1.0}, "momentum"),
        ({"betas": [0.9]}, "2 values are expected, not 1"),
        ({"epsilon": 0}, "epsilon"),
        ({"weight_decay": 0.1}, "unknown field"),
    ],
)
def test_wrong_words_for_a_server_are_refused_by_name(server, said):
    with pytest.raises(ScenarioError, match=said):
        Scenario.load("quickstart", {"learning.server": server})
