"""What only shows when a scenario is built is told at file, line and field, like everything else."""

import pickle

import pytest

from airsim import Scenario, run, sweep
from airsim.build import build_simulation
from airsim.errors import DataError, ScenarioError, blaming
from airsim.scenario import parse_overrides

HEAD = "schema: airsim/1\nname: test\nextends: quickstart\n"
ONE_ADAPTER = "learning: {adapters: {personal_rank: 0, shared_rank: 20}, model: {base: {kind: random}}}\n"


def message(folder, text, kind, *overrides):
    path = folder / "my.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(kind) as caught:
        run(Scenario.load(path, parse_overrides(overrides)))
    assert type(caught.value) is kind
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "kind", "said", "way_out"),
    [
        (
            "learning: {data: {partition: {kind: one-class}}}\n",
            DataError,
            "my.yaml:4: learning.data.partition.kind: task 0: 10 classes cannot go to 5 devices one by one\n",
            "^ take as many devices as classes, or another partition",
        ),
        (
            "network: {devices: {min_distance: 0.1 m, max_distance: 0.5 m, height: 10 m}}\n"
            "channel: {snr: null, path_loss: {}, noise: {}}\nlearning: {model: {base: {kind: random}}}\n",
            ScenarioError,
            "my.yaml:4: network.devices.min_distance: device 1 stands",
            "^ raise the heights or network.devices.min_distance",
        ),
        (
            ONE_ADAPTER + "aggregation: {method: colr}\n",
            ScenarioError,
            "my.yaml:4: learning.adapters.shared_rank: colr needs 20 basis vectors on the short side of",
            "^ choose a rank up to 10, or another method",
        ),
        (
            "learning: {model: {base: {kind: file, path: /nowhere}}}\n",
            DataError,
            "my.yaml:4: learning.model.base.path: /nowhere: no base model can be read",
            "^ choose another file",
        ),
        (
            "learning: {data: {test_images: 1}, model: {base: {kind: random}}}\n"
            "record: {also_evaluate: [devices]}\n",
            ScenarioError,
            "my.yaml:5: record.also_evaluate: device",
            "^ take more of them (learning.data.test_images), or leave devices out",
        ),
    ],
)
def test_an_error_of_the_build_has_file_line_field_and_way_out(tmp_path, text, kind, said, way_out):
    told = message(tmp_path, text, kind)
    assert told.startswith(said)
    assert way_out in told


def test_an_override_that_the_build_cannot_use_is_named(tmp_path):
    text = "learning: {data: {partition: {kind: iid}}}\n"
    told = message(tmp_path, text, DataError, "learning.data.partition.kind=one-class")
    assert told.startswith("-s learning.data.partition.kind=one-class: learning.data.partition.kind: task 0")
    told = message(tmp_path, ONE_ADAPTER, ScenarioError, "aggregation.method=colr")
    assert told.startswith("-s aggregation.method=colr: aggregation.method: colr needs 20 basis vectors")


def test_a_failed_trial_of_a_sweep_names_the_field(scenario, tmp_path):
    axes = {"learning.data.partition.kind": ["iid", "one-class"]}
    swept = scenario(sweep={"grid": axes}, stop__rounds=1)
    (failed,) = sweep(swept, out=tmp_path / "sweep").failures
    assert failed.failure.startswith("learning.data.partition.kind: task 0: 10 classes")


def test_scenarios_are_equal_whatever_they_were_read_from_and_keep_their_lines_in_another_process(tmp_path):
    texts = (HEAD + "seed: 3\n", HEAD + "\n\n\nseed: 3\n")
    for name, text in zip("ab", texts, strict=True):
        (tmp_path / f"{name}.yaml").write_text(text)
    one, other = (Scenario.load(tmp_path / f"{name}.yaml") for name in "ab")
    assert one == other and one.layers != other.layers
    assert pickle.loads(pickle.dumps(one)).layers == one.layers


def test_plain_data_has_no_lines_and_the_field_is_named(scenario):
    built = Scenario.model_validate(scenario(learning__data__partition={"kind": "one-class"}).written())
    assert built.layers == ()
    with pytest.raises(
        DataError, match=r"^learning\.data\.partition\.kind: task 0: .*; take as many devices"
    ):
        build_simulation(built)


def test_the_innermost_blame_counts():
    with pytest.raises(DataError) as caught, blaming("outer"), blaming("inner", "beside"):
        raise DataError("broken; mend it")
    assert caught.value.fields == ("inner", "beside")
