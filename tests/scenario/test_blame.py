"""Whoever wrote the value that does not fit is shown it: file, override or swept value."""

import pytest

from airsim.scenario import Scenario

HEAD = "schema: airsim/1\nname: test\nextends: quickstart\n"
ONE_ADAPTER = "learning: {adapters: {personal_rank: 0}}\nuplink: {mode: error-free}\n"
FEDINC = HEAD + ONE_ADAPTER + "aggregation: {method: fedinc, clusters: 3}\n"


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("learning.training.steps=3", "learning.training.steps"),
        ("learning.training.epochs=2", "learning.training.epochs"),
        ("learning.training.momentum=0.5", "learning.training.momentum"),
        ("learning.training={steps: 2}", "learning.training.steps"),
    ],
)
def test_local_training_that_a_method_cannot_use_is_blamed_on_the_field_that_asks_for_it(
    message, override, field
):
    said = message(HEAD + "aggregation: {method: airpfed-lora}\n", [override])
    assert said.startswith(f"-s {override}: {field}: airpfed-lora sends one gradient per round")


def test_one_local_step_is_what_the_method_of_gradients_does(write):
    write(my=HEAD + "aggregation: {method: airpfed-lora}\n")
    assert Scenario.load("my.yaml", {"learning.training.steps": 1}).learning.training.steps == 1


def test_the_part_of_an_optimiser_that_scaffold_cannot_use_is_the_one_that_is_named(message):
    text = HEAD + ONE_ADAPTER + "aggregation: {method: scaffold}\n"
    said = message(text, ["learning.training.weight_decay=0.1"])
    assert said.startswith(
        "-s learning.training.weight_decay=0.1: learning.training.weight_decay: the control"
    )
    said = message(text, ["learning.training.optimiser=adamw"])
    assert said.startswith("-s learning.training.optimiser=adamw: learning.training.optimiser: the control")


@pytest.mark.parametrize(
    ("axes", "overrides", "said"),
    [
        (
            "{aggregation.clusters: [2, 30]}",
            [],
            "my.yaml:7: sweep.grid.aggregation.clusters.1: 30 clusters cannot be made of 20 devices "
            "in a round\n",
        ),
        (
            "{aggregation.method: [ps, fedinc], learning.participation.devices: [8, 2]}",
            [],
            "my.yaml:7: sweep.grid.aggregation.method.1: aggregation.clusters: 3 clusters cannot be made of "
            "2 devices in a round (at learning.participation.devices = 2)\n",
        ),
        (
            "{aggregation.method: [ps, fedinc]}",
            ["aggregation.method=ps", "aggregation.clusters=30"],
            "-s aggregation.clusters=30: aggregation.clusters: 30 clusters cannot be made of 20 devices in a "
            "round (at aggregation.method = fedinc)\n",
        ),
        (
            "{aggregation.method: [ps, fedinc]}",
            ["aggregation.method=ps", "learning.participation.devices=2"],
            "-s learning.participation.devices=2: learning.participation.devices: aggregation.clusters: "
            "3 clusters cannot be made of 2 devices in a round (at aggregation.method = fedinc)\n",
        ),
        (
            "{aggregation.method: [ps, airpfed-lora]}",
            ["learning.training.steps=3"],
            "-s learning.training.steps=3: learning.training.steps: airpfed-lora sends one gradient per "
            "round: devices do not train between uploads (at aggregation.method = airpfed-lora)\n",
        ),
    ],
)
def test_at_a_point_of_a_sweep_the_value_that_was_written_last_is_shown(message, axes, overrides, said):
    text = FEDINC + f"sweep: {{grid: {axes}}}\n"
    assert message(text, overrides).startswith(said)


def test_a_method_that_an_axis_brings_in_is_shown_there_with_the_clusters_of_the_file(message):
    text = FEDINC.replace("clusters: 3", "clusters: 30").replace("fedinc", "ps")
    said = message(text + "sweep: {grid: {aggregation.method: [ps, fedinc]}}\n")
    first, shown, *_ = said.splitlines()
    assert first.startswith("my.yaml:7: sweep.grid.aggregation.method.1: aggregation.clusters: 30 clusters")
    assert shown.endswith("sweep: {grid: {aggregation.method: [ps, fedinc]}}")
