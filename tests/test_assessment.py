"""What else a run measures: the global model, all tasks, and the worst devices, from scenario to figure."""

import csv
import json

import numpy as np
import pytest
import torch

from airsim import Scenario, run, store, sweep
from airsim.build import build_simulation
from airsim.errors import ScenarioError
from airsim.learn.evaluation import (
    HeadPolicy,
    evaluate,
    evaluate_across,
    evaluate_devices,
    evaluate_global,
)
from airsim.report.figures import run_drawings, sweep_drawings
from airsim.scenario import SUBJECT_OF
from airsim.study import read_sweep

ALL = ["global", "cross-task", "devices"]
EVERYTHING = {"record__also_evaluate": ALL}
LOCAL = {
    "uplink__mode": "error-free",
    "uplink__nonlinear": "orthogonal",
    "learning__adapters__personal_rank": 0,
    "learning__training__steps": 3,
    "learning__batch": 8,
}


def engine_after(scenario, rounds=2, **changes):
    engine = build_simulation(scenario(**changes)).engine
    for index in range(rounds):
        engine.begin(index, range(8))
        engine.finish(index)
    return engine


def test_a_run_measures_own_tasks_alone_unless_it_is_asked(scenario, tmp_path):
    short = {"stop__rounds": 2, "record__evaluate_every": 2}
    plain, asked = run(scenario(**short)), run(scenario(**short, **EVERYTHING), out=tmp_path / "run")
    assert not set(SUBJECT_OF) & set(plain.metrics) and not set(SUBJECT_OF) & set(plain.summary)
    assert all(
        repr(asked.metrics[name]) == repr(values) for name, values in plain.metrics.items()
    )  # what is measured beside changes nothing else
    assert set(SUBJECT_OF) <= set(asked.summary)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [("accuracy_worst_decile" in line) for line in lines] == [False, True]


def test_each_subject_is_measured_as_the_evaluations_say(scenario):
    engine = engine_after(scenario, **EVERYTHING)
    learner, data = engine.learner, engine.learner.cohort.data
    models = (learner.model, engine.adapters, learner.scale)
    found = engine.evaluate()
    assert found["accuracy"] == evaluate(*models, data.tests).accuracy
    everywhere = evaluate_global(*models, data.tests)
    assert found["accuracy_global"] == everywhere.accuracy
    assert found["accuracy_global_worst_task"] == min(found["accuracy_global_per_task"])
    across = evaluate_across(*models, data.tests, HeadPolicy.TESTED_TASK)
    assert found["accuracy_cross_task"] == pytest.approx(across.accuracy.mean())
    assert found["accuracy_cross_task_per_model"] == across.all_tasks.tolist()
    devices = evaluate_devices(*models, data)
    assert (found["accuracy_devices"], found["accuracy_worst_decile"]) == (devices.mean, devices.worst_decile)


def per_device(engine, device, task):
    """Right answers of a device's own model on a task's test set, from its factors alone."""
    learner, state = engine.learner, engine.state
    scale = float(state.server.scaling.of(state.held.ranks[device]))
    layers = {name: factors.take(device) for name, factors in state.held.layers.items()}
    split = learner.data.tests[task]
    with torch.no_grad():
        logits = state.model.forward(split.x, layers, scale)
    return (logits.argmax(dim=1) == split.y).double().numpy()


@pytest.mark.parametrize("method", ["fedsa-lora", "hetlora", "fedinc"])
def test_devices_of_any_method_are_judged_by_the_models_that_they_hold(scenario, method):
    subjects = ["cross-task", "devices"] if method in ("fedsa-lora", "fedinc") else ALL
    engine = engine_after(scenario, aggregation__method=method, record__also_evaluate=subjects, **LOCAL)
    found, data = engine.evaluate(), engine.learner.data
    accuracies, crossed = [], np.zeros((4, 4))
    for device, own in enumerate(data.task_of_device):
        right, labels = per_device(engine, device, own), data.tests[own].y.numpy()
        classes = [c for c in data.devices[device].y.tolist() if c in labels]
        accuracies.append(np.mean([right[labels == c].mean() for c in classes]))
        crossed[own] += [per_device(engine, device, task).mean() / 2 for task in range(4)]
    assert found["accuracy_devices"] == pytest.approx(np.mean(accuracies))
    assert found["accuracy_worst_decile"] == pytest.approx(min(accuracies))  # one of eight devices
    assert found["accuracy_cross_task_per_model"] == pytest.approx(crossed.mean(axis=1))
    assert found["accuracy_per_task"] == pytest.approx(np.diagonal(crossed))


@pytest.mark.parametrize("method", ["ps", "flora", "scaffold"])
def test_where_all_have_one_model_the_global_model_is_that_one(scenario, method):
    found = engine_after(scenario, aggregation__method=method, **EVERYTHING, **LOCAL).evaluate()
    assert found["accuracy_global_per_task"] == pytest.approx(found["accuracy_per_task"])
    assert found["test_loss_global"] == pytest.approx(found["test_loss"], rel=1e-5)
    assert found["accuracy_cross_task"] == pytest.approx(found["accuracy_global"])


def test_results_have_a_column_for_what_was_asked_and_figures_name_it(scenario, tmp_path):
    config = scenario(
        sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}},
        record__also_evaluate=["devices"],
        stop__rounds=1,
        figures=[{"x": "channel.snr", "y": "accuracy_worst_decile"}],
    )
    outcomes = sweep(config, out=tmp_path / "s").outcomes
    with (tmp_path / "s/results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    extra = [name for name in rows[0] if name in SUBJECT_OF]
    assert extra == ["accuracy_devices", "accuracy_worst_decile"]
    (drawing,) = sweep_drawings(read_sweep(tmp_path / "s"))
    assert drawing.name == "accuracy-worst-decile-vs-snr"
    means = [point.mean for point in drawing.lines[0].points]
    assert means == [outcome.summary["accuracy_worst_decile"] for outcome in outcomes]
    lines = run_drawings(store.read_run(outcomes[0].folder))[0].lines
    assert [line.label for line in lines] == ["accuracy", "accuracy devices", "accuracy worst decile"]


def test_the_order_in_which_subjects_are_written_does_not_name_another_result(scenario):
    one, other = (scenario(record__also_evaluate=own).fingerprint("data", 1) for own in (ALL, ALL[::-1]))
    assert one == other != scenario().fingerprint("data", 1)


def test_devices_that_no_test_sample_can_judge_are_refused_before_the_first_round(scenario):
    changes = {"learning__data__test_images": 1, "learning__data__partition__concentration": 0.05}
    build_simulation(scenario(**changes))
    with pytest.raises(
        ScenarioError, match=r"record\.also_evaluate: device \d has only classes without test"
    ):
        build_simulation(scenario(**changes, record__also_evaluate=["devices"]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"record.also_evaluate": "global"}, r"write \[global\]"),
        ({"record.also_evaluate": ["glob"]}, "did you mean 'global'"),
        ({"record.also_evaluate": ["devices", "devices"]}, "devices stands here twice"),
        ({"record.head_policy": "own"}, "own-task"),
        (
            {
                "record.also_evaluate": ["global"],
                "aggregation.method": "fedinc",
                "learning.adapters.personal_rank": 0,
                "uplink.nonlinear": "orthogonal",
            },
            "fedinc has no global model: every cluster has a model of its own",
        ),
        (
            {
                "sweep": {"grid": {"channel.snr": ["0 dB"]}},
                "figures": [{"x": "channel.snr", "y": "accuracy_cross_task"}],
            },
            r"add record.also_evaluate: \[cross-task\]",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_way_out(changes, message):
    with pytest.raises(ScenarioError, match=message):
        Scenario.load("quickstart", changes)
