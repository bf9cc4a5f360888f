"""Values from the command line and from Python, laid over a file."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airsim.errors import ScenarioError
from airsim.scenario import Scenario, parse_override, parse_overrides
from airsim.scenario.names import dotted_names

HEAD = "schema: airsim/1\nname: test\n"
MINIMAL = HEAD + "channel: {snr: 20 dB}\n"


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("channel.snr=0 dB", ("channel.snr", "0 dB")),
        ("uplink.mode=error-free", ("uplink.mode", "error-free")),
        ("stop.rounds=1e3", ("stop.rounds", 1000.0)),
        ("learning.model.hidden=[8, 8]", ("learning.model.hidden", [8, 8])),
        ("channel.path_loss={}", ("channel.path_loss", {})),
        ("channel.snr=null", ("channel.snr", None)),
        (" seed = 3 ", ("seed", 3)),
        ("name='a=b'", ("name", "a=b")),
    ],
)
def test_an_override_is_read_like_a_file(text, pair):
    assert parse_override(text) == pair


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["foo"], "-s foo: lacks an '='\n *write -s key=value, for example -s channel.snr=\"0 dB\""),
        (["=3"], "-s =3: lacks a key"),
        (["seed="], "-s seed=: seed: the value is empty\n *write -s seed=null to leave it out"),
        (["seed=[1"], r"-s seed=\[1: seed: not valid YAML: a list that is not closed\n *close it with ]"),
        (["uplink.mode=on"], "-s uplink.mode=on: uplink.mode: 'on' is true or false to some readers"),
        (["seed=1", "seed=2"], "-s seed=2: seed is set twice"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(texts, said):
    with pytest.raises(ScenarioError, match=said):
        parse_overrides(texts)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "channel.snr=20",
            "-s channel.snr=20: channel.snr: 20 has no unit\n               ^ write '20 dB'",
        ),
        (
            "channel.sn=20 dB",
            "-s channel.sn=20 dB: channel.sn: unknown field\n   ^ did you mean 'snr'?",
        ),
        ("channel.sn=null", "-s channel.sn=null: channel.sn: unknown field\n   ^ did you mean 'snr'?"),
        ("snr=20 dB", "-s snr=20 dB: snr: unknown field\n   ^ did you mean 'channel.snr'?"),
        (
            "channel.path_loss={}",
            "-s channel.path_loss={}: channel.path_loss: snr excludes path_loss: it stands for path loss and "
            "noise together\n                     ^ to use path_loss and noise set channel.snr=null; "
            "to use snr set channel.path_loss=null",
        ),
        (
            "channel.snr=null",
            "-s channel.snr=null: channel.snr: neither snr nor path_loss and noise are given\n",
        ),
        ("seed.a=1", "-s seed.a=1: seed.a: seed is given as a whole: nothing below it can be named\n"),
        (
            "learning.data.tasks.0.share=3",
            "-s learning.data.tasks.0.share=3: learning.data.tasks.0.share: learning.data.tasks is given as",
        ),
        (
            "learning.model.base.kind=rand",
            "-s learning.model.base.kind=rand: learning.model.base.kind: the text 'rand'",
        ),
        (
            "learning.data.tasks=[{swap: [1, 1]}]",
            "-s learning.data.tasks=[{swap: [1, 1]}]: learning.data.tasks.0.swap: [1, 1] swaps a label",
        ),
        ("chanel.snr=3", "-s chanel.snr=3: chanel: unknown field\n   ^ did you mean 'channel'?"),
        ("network=[1]", "-s network=[1]: network: a mapping is expected, not a list"),
        ("extends=quickstart", "-s extends=quickstart: extends: unknown field"),
    ],
)
def test_an_override_that_does_not_fit_is_named_as_it_was_written(override, said, message):
    assert message(MINIMAL, [override]).startswith(said)


def test_a_combination_broken_by_an_override_is_said_at_the_override(message):
    text = MINIMAL + "network: {devices: {peak_power: 21 dBm}}\n"
    said = message(text, ["network.devices.average_power=0.3 W"])
    assert said.startswith(
        "-s network.devices.average_power=0.3 W: network.devices.average_power: peak_power 21 dBm"
    )
    assert "need 400" in message(MINIMAL, ["network.devices.per_edge_server=200"])


def test_an_override_may_mend_what_the_file_lacks(write):
    write(my=HEAD)
    assert Scenario.load("my.yaml", {"channel.snr": "0 dB"}).channel.snr == 1.0


def test_overrides_from_python_give_what_the_file_would_give(write):
    write(
        my=MINIMAL,
        other=HEAD + "channel: {snr: 0 dB, fading: {model: rician, k_factor: 6 dB}}\nstop: {rounds: 7}\n",
    )
    changes = {
        "channel.snr": "0 dB",
        "stop.rounds": 7,
        "channel.fading": {"model": "rician", "k_factor": "6 dB"},
    }
    by_python = Scenario.load("my.yaml").with_overrides(changes)
    assert by_python == Scenario.load("other.yaml")
    assert by_python.with_overrides({"channel.fading.model": "rayleigh"}).channel.fading.k_factor is None


def test_null_returns_a_written_value_to_its_default(write):
    write(my=MINIMAL + "network: {devices: {peak_power: 21 dBm}}\n")
    loaded = Scenario.load("my.yaml")
    assert loaded.with_overrides({"network.devices.peak_power": None}).network.devices.peak_power is None
    physical = {"channel.snr": None, "channel.path_loss": {}, "channel.noise.figure": "5 dB"}
    assert loaded.with_overrides(physical).channel.noise.figure == pytest.approx(10**0.5)


def test_a_wrong_override_from_python_is_said_in_the_same_words(write):
    write(my=MINIMAL)
    with pytest.raises(
        ScenarioError, match=r"-s channel.snr=20: channel.snr: 20 has no unit\n *. write '20 dB'"
    ):
        Scenario.load("my.yaml").with_overrides({"channel.snr": 20})


def test_an_axis_of_the_sweep_can_be_overridden(write):
    write(my=MINIMAL + "sweep: {grid: {channel.snr: [0 dB]}}\n")
    loaded = Scenario.load("my.yaml", {"sweep.grid.channel.snr": ["1 dB", "2 dB"], "sweep.repeat": 2})
    assert [trial.values["channel.snr"] for trial in loaded.trials()] == ["1 dB", "1 dB", "2 dB", "2 dB"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**6)
    | st.floats(allow_nan=True)
    | st.sampled_from(
        ["20 dB", "0 W", "1 m", "1 MHz", "iid", "random", "file", "all", "full", "rician", "mnist", ""]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "from", "to", "step", "model", "x", "channel.snr"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [*dotted_names(Scenario), "sweep.grid.channel.snr", "sweep.grid.stop.rounds", "foo", "a.b"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_any_override_gives_a_scenario_or_a_scenario_error(overrides):
    quickstart = Scenario.load("quickstart")
    try:
        changed = quickstart.with_overrides(overrides)
    except ScenarioError as error:
        assert "Traceback" not in str(error)
        assert "see the reference of this field" not in str(error)
    else:
        assert changed.with_overrides({}) == changed
