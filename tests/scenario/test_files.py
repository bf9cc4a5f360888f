"""Files that extend each other, bundled names, and files that cannot be read."""

from pathlib import Path

import pytest

from airsim.errors import ScenarioError
from airsim.scenario import Scenario, bundled_names
from optim import strict_yaml

HEAD = "schema: airsim/1\nname: test\n"
MINIMAL = HEAD + "channel: {snr: 20 dB}\n"


def test_a_file_is_laid_over_the_file_it_extends(write):
    write(
        base=MINIMAL + "seed: 7\nlearning: {batch: 32, adapters: {shared_rank: 4, personal_rank: 1}}\n",
        my="extends: base.yaml\nname: child\nlearning: {adapters: {shared_rank: 2}}\n",
    )
    child = Scenario.load("my.yaml")
    assert (child.name, child.seed, child.learning.batch) == ("child", 7, 32)
    assert (child.learning.adapters.shared_rank, child.learning.adapters.personal_rank) == (2, 1)


def test_lists_are_replaced_and_null_brings_the_default_back(write):
    write(
        base=MINIMAL + "stop: {rounds: 5}\nlearning: {data: {tasks: [{}, {}, {}]}}\n",
        my="extends: base.yaml\nstop: {rounds: null}\nlearning: {data: {tasks: [{share: 3}]}}\n",
    )
    child = Scenario.load("my.yaml")
    assert child.stop.rounds == 300
    assert [task.share for task in child.learning.data.tasks] == [3.0]


def test_null_makes_room_for_what_excludes_it(write):
    write(base=MINIMAL, my="extends: base.yaml\nchannel: {snr: null, path_loss: {}, noise: {}}\n")
    assert Scenario.load("my.yaml").channel.snr is None


def test_another_kind_does_not_inherit_the_fields_of_the_old_one(write):
    write(
        base=MINIMAL
        + "learning: {data: {partition: {kind: dirichlet, concentration: 0.1, min_images: 3}}}\n",
        my="extends: base.yaml\nlearning: {data: {partition: {kind: iid}}}\n",
    )
    partition = Scenario.load("my.yaml").learning.data.partition
    assert (partition.kind, partition.min_images) == ("iid", 2)


def test_extends_is_relative_to_the_file_and_may_name_a_bundled_scenario(write, tmp_path):
    write(my="extends: quickstart\nname: mine\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.yaml").write_text("extends: ../my.yaml\nname: deep\n")
    deep = Scenario.load(Path("sub/deep.yaml"))
    assert deep == Scenario.load("quickstart").with_overrides({"name": "deep"})


def test_a_copied_scenario_still_finds_the_bundled_file_it_extends(write):
    write(my=HEAD + "extends: quickstart.yaml\n")
    assert Scenario.load("my.yaml").seed == Scenario.load("quickstart").seed


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_scenario_loads_and_has_trials(name):
    scenario = Scenario.load(name)
    assert scenario.name == name.rpartition("/")[2]
    assert all(trial.scenario.sweep is None for trial in scenario.trials())


@pytest.mark.parametrize("name", bundled_names())
def test_a_lock_file_gives_an_equal_scenario(name, write):
    scenario = Scenario.load(name)
    Path("scenario.lock.yaml").write_text(scenario.resolved_yaml())
    again = Scenario.load("scenario.lock.yaml")
    assert again == scenario
    assert again.fingerprint("data", 1, "base") == scenario.fingerprint("data", 1, "base")
    assert again.resolved_yaml() == scenario.resolved_yaml()
    assert [trial.values for trial in again.trials()] == [trial.values for trial in scenario.trials()]


def test_the_quickstart_writes_the_defaults_out():
    quickstart = Scenario.load("quickstart")
    bare = Scenario.from_mapping(
        {"schema": "airsim/1", "name": "bare", "seed": 2026, "channel": {"snr": "20 dB"}}
    )
    assert quickstart.fingerprint("data", 1) == bare.fingerprint("data", 1)


def test_the_table_of_scenarios_names_every_one():
    folder = Path(__file__).resolve().parents[2] / "scenarios"
    table = (folder / "README.md").read_text()
    assert all(f"]({name}.yaml)" in table for name in bundled_names())
    runs = {name: len(Scenario.load(name).trials()) for name in bundled_names()}
    for line in table.splitlines():
        for name, count in runs.items():
            if f"]({name}.yaml)" in line:
                assert f"| {count} |" in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("quikstart", "quikstart: no such file\n.*did you mean 'quickstart'.*snr-devices"),
        (
            "scenarios/airpfed-mnst.yaml",
            "scenarios/airpfed-mnst.yaml: no such file\n.*did you mean 'airpfed-mnist'",
        ),
        (
            "zzz.yaml",
            "zzz.yaml: no such file\n *the scenarios that come along are .*airpfed-mnist, .*quickstart",
        ),
        (".", "is a folder\n *name a scenario file in it"),
    ],
)
def test_a_missing_file_is_answered_with_the_nearest_name(source, said, write):
    with pytest.raises(ScenarioError, match=said):
        Scenario.load(source)


def test_a_missing_parent_is_said_at_its_line(message):
    said = message(HEAD + "extends: quickstrt\n")
    assert said.startswith(
        "my.yaml:3: extends: no such file 'quickstrt' beside this one\n    3 | extends: quickstrt\n"
    )
    assert "did you mean 'quickstart'?" in said


def test_files_that_extend_each_other_in_a_circle_are_refused(message):
    said = message(HEAD + "extends: a.yaml\n", a="extends: b.yaml\n", b="extends: my.yaml\n")
    assert "b.yaml:1 (extended by a.yaml): extends: the files extend each other in a circle" in said
    assert "my.yaml -> a.yaml -> b.yaml -> my.yaml" in said
    assert "circle: my.yaml -> my.yaml" in message(HEAD + "extends: my.yaml\n")


def test_extends_names_one_file(message):
    assert "my.yaml:3: extends: one file name is expected, not a list" in message(HEAD + "extends: [a, b]\n")


def test_an_error_in_a_parent_is_said_at_the_parent(message):
    said = message(HEAD + "extends: base.yaml\nseed: 1\n", base="channel:\n  snr: 5 W\nseed: 1.5\n")
    assert "base.yaml:2 (extended by my.yaml): channel.snr: '5 W' is a power, not a ratio" in said
    assert "seed" not in said  # the child replaced it


def test_a_parent_that_is_no_yaml_is_named(message):
    said = message(HEAD + "extends: base.yaml\n", base="a: [1\nb: no\n")
    assert said.startswith("base.yaml:2 (extended by my.yaml): not valid YAML")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "my.yaml:1: is empty"),
        ("- 1\n", "my.yaml:1: a scenario is a mapping, not a list"),
        (MINIMAL + "network:\n\tdevices: {}\n", "my.yaml:5: not valid YAML: a tab is no indentation"),
        (MINIMAL + "seed: 1\nseed: 2\n", r"my.yaml:5: seed: the key 'seed' stands here twice"),
        (MINIMAL + "---\na: 1\n", "my.yaml:5: a second document"),
        (MINIMAL + "seed: no\n", "my.yaml:4: seed: 'no' is true or false"),
        (MINIMAL + "learning: {batch: }\n", "my.yaml:4: learning.batch: the value is empty"),
    ],
)
def test_bad_yaml_is_said_with_file_and_line(text, said, message):
    assert message(text).startswith(said)


def test_a_file_that_is_not_text_is_refused(write):
    write()
    Path("my.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ScenarioError, match=r"my.yaml: is not UTF-8 text"):
        Scenario.load("my.yaml")


def test_a_lock_file_is_plain_data_with_units():
    lock = strict_yaml.load(Scenario.load("quickstart").resolved_yaml()).data
    assert lock["network"]["devices"]["average_power"] == "20 dBm"
    assert lock["links"]["downlink_rate"] == "10 Mbit/s"
    assert lock["schema"] == "airsim/1"
