"""Problem files: what they may say, and what is said about those that cannot be used."""

import json

import numpy as np
import pytest

import optim
from optim import AirCompProblem, CombinedProblem, FileError, dbm

RECEIVER = """\
channel: [[1, 0.5-2j], [0.2, 1j], [3, 1]]
target_gains: [0.2, 0.3, 0.5]
power_budget: [23 dBm, 0.2 W, 1 mW]
noise_power: -10 dBm
"""
COMBINED = """\
base_station_channel: [[1, 2], [3, 4j], [5, 6]]
members: [[0, 2], [1]]
edge_channels:
  - [[1, 2j], [3, 4]]
  - [[5, 6]]
data_sizes: [10, 20, 30]
rank_shared: 6
rank_personal: 2
average_power: 20 dBm
peak_power: 26 dBm
noise_power: [-10 dBm, -20 dBm, -20 dBm]
payload_std: [1, [0.5, 0.6, 0.7]]
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The problem of a text, in a file of the working directory."""
    monkeypatch.chdir(tmp_path)

    def load_text(text, name="p.yaml"):
        (tmp_path / name).write_text(text)
        return optim.load_problem(name)

    return load_text


def test_a_receiver_is_what_its_file_says(load):
    problem = load(RECEIVER)
    assert isinstance(problem, AirCompProblem)
    np.testing.assert_array_equal(problem.channel, [[1, 0.5 - 2j], [0.2, 1j], [3, 1]])
    np.testing.assert_array_equal(problem.target_gains, [0.2, 0.3, 0.5])
    np.testing.assert_array_equal(problem.power_budget_w, [dbm(23), 0.2, 0.001])
    assert problem.noise_power_w == dbm(-10)


def test_a_combined_problem_is_what_its_file_says(load):
    problem = load(COMBINED)
    assert isinstance(problem, CombinedProblem)
    np.testing.assert_array_equal(problem.edge_channels[0], [[1, 2j], [3, 4]])
    assert [task.tolist() for task in problem.members] == [[0, 2], [1]]
    assert (problem.rank_shared, problem.rank_personal) == (6, 2)
    np.testing.assert_array_equal(problem.average_power_w, np.full(3, dbm(20)))
    np.testing.assert_array_equal(problem.noise_power_w, [dbm(-10), dbm(-20), dbm(-20)])
    np.testing.assert_array_equal(problem.payload_std[1], [0.5, 0.6, 0.7])


@pytest.mark.parametrize(
    ("change", "argument", "value"),
    [
        ("power_budget_w: [0.1, 0.2, 0.3]", "power_budget_w", [0.1, 0.2, 0.3]),
        ("power_budget_dbm: [23, 20, 10]", "power_budget_w", [dbm(23), dbm(20), dbm(10)]),
        ("power_budget: 23 dBm", "power_budget_w", [dbm(23)] * 3),
        ("data_sizes: [1, 3, 4]", "target_gains", [0.125, 0.375, 0.5]),
        ("channel: {re: [[1, 2], [3, 4], [5, 6]], im: [[1, 0], [0, 0], [0, 2]]}", "channel", None),
        ("misalignment_weight: 5", "misalignment_weight", 5.0),
        ("noise_power_w: 1e-3", "noise_power_w", 1e-3),
        ("schema: optim-problem/1\nkind: receiver\nerror_covariance: null", "error_covariance", None),
    ],
)
def test_a_field_can_be_spelled_in_several_ways(load, change, argument, value):
    name = change.split(":")[0]
    replaced = {"power_budget_w": "power_budget", "power_budget_dbm": "power_budget"}
    replaced |= {"noise_power_w": "noise_power", "data_sizes": "target_gains"}
    dropped = replaced.get(name, name)
    kept = [line for line in RECEIVER.splitlines() if not line.startswith(f"{dropped}:")]
    problem = load("\n".join([*kept, change]))
    if name == "channel":
        value = np.array([[1 + 1j, 2], [3, 4], [5, 6 + 2j]])
    np.testing.assert_array_equal(getattr(problem, argument), value)


def test_imperfect_csi_and_several_device_antennas_can_be_said(load):
    text = RECEIVER.replace("[[1, 0.5-2j], [0.2, 1j], [3, 1]]", "[[[1, 2], [3, 4]], [[1, 1j], [0, 1]]]")
    text = text.replace("[0.2, 0.3, 0.5]", "0.5").replace("[23 dBm, 0.2 W, 1 mW]", "1 W")
    covariance = "error_covariance: {scale: [0.1, 0.2], shape: [[1, 0.5j], [-0.5j, 1]]}\ndevice_antennas: 2\n"
    problem = load(text + covariance)
    assert problem.stacked_channel.shape == (2, 2, 2)
    np.testing.assert_array_equal(problem.error_covariance.scale, [0.1, 0.2])
    np.testing.assert_array_equal(problem.error_covariance.shape, [[1, 0.5j], [-0.5j, 1]])


def test_a_random_channel_is_the_same_for_the_same_seed_and_has_the_gain_it_says(load):
    text = RECEIVER.replace(
        "[[1, 0.5-2j], [0.2, 1j], [3, 1]]",
        "{rayleigh: {devices: 3, antennas: 8, blocks: 200, gain: -20 dB, seed: 1}}",
    )
    channel = load(text).channel
    np.testing.assert_array_equal(channel, load(text).channel)
    assert channel.shape == (200, 3, 8)
    assert np.mean(np.abs(channel) ** 2) == pytest.approx(0.01, rel=0.05)
    assert abs(np.mean(channel**2)) < 0.001


@pytest.mark.parametrize("suffix", ["npz", "npy", "mat"])
def test_an_array_can_lie_in_a_file_beside_the_problem(load, tmp_path, suffix):
    from scipy import io

    channel = np.array([[1, 2j], [3, 4], [5, 6]])
    (tmp_path / "data").mkdir()
    path = tmp_path / f"data/h.{suffix}"
    if suffix == "npy":
        np.save(path, channel)
    elif suffix == "npz":
        np.savez(path, H=channel, other=1)
    else:
        io.savemat(path, {"H": channel, "other": 1})
    name = "" if suffix == "npy" else ", name: H"
    text = RECEIVER.replace("[[1, 0.5-2j], [0.2, 1j], [3, 1]]", f"{{file: h.{suffix}{name}}}")
    (tmp_path / "data/p.yaml").write_text(text)
    np.testing.assert_array_equal(optim.load_problem("data/p.yaml").channel, channel)


def replaced(line, by, text=RECEIVER):
    lines = text.splitlines()
    lines[line - 1] = by
    return "\n".join(lines)


WRONG = {
    "unknown field": (
        RECEIVER + "power_buget: 1 W",
        "p.yaml:5: power_buget: unknown field",
        "^ did you mean 'power_budget'",
    ),
    "bare power": (
        replaced(3, "power_budget: 23"),
        "p.yaml:3: power_budget: 23 has no unit",
        "    3 | power_budget: 23",
        "      |               ^ write '23 dBm' or '23 W'",
    ),
    "bare power in a list": (
        replaced(3, "power_budget:\n  - 1 W\n  - 1 W\n  - 0.2"),
        "p.yaml:6: power_budget[2]: 0.2 has no unit",
    ),
    "wrong unit": (replaced(4, "noise_power: 3 dB"), "p.yaml:4: noise_power: '3 dB' is a ratio, not a power"),
    "negative power": (replaced(3, "power_budget: -1 W"), "p.yaml:3: power_budget: '-1 W' is negative"),
    "unit twice": (
        replaced(3, "power_budget_w: 1 W"),
        "p.yaml:3: power_budget_w: the text '1 W' is no number",
        "write power_budget: 1 W",
    ),
    "two spellings": (RECEIVER + "noise_power_w: 1", "p.yaml:5: noise_power_w: says the same as noise_power"),
    "two targets": (RECEIVER + "data_sizes: 1", "p.yaml:5: data_sizes: says the same as target_gains"),
    "no noise": (
        replaced(4, "noise_power: 0 W"),
        "p.yaml:4: noise_power_w = 0 is not allowed",
        "^ give the receiver's noise",
    ),
    "missing": (replaced(4, ""), "p.yaml: noise_power is missing", "    add noise_power: -100 dBm"),
    "missing target": (
        replaced(2, ""),
        "target_gains is missing",
        "    add target_gains: 0.1, or data_sizes",
    ),
    "negative target": (
        replaced(2, "target_gains: [1, -2, 3]"),
        "p.yaml:2: target_gains[1] = -2 is not allowed",
        "      |                   ^ a target's sign",
    ),
    "wrong length": (
        replaced(2, "target_gains: [1, 2]"),
        "p.yaml:2: target_gains has shape (2,), which does not fit (3,)",
    ),
    "ragged": (
        replaced(1, "channel: [[1, 2], [1], [1, 2]]"),
        "p.yaml:1: channel[1]: holds 1 numbers, but row 0 holds 2 numbers",
        "make all rows",
    ),
    "no matrix": (replaced(1, "channel: [1, 2]"), "p.yaml:1: channel has shape (2,)", "one row per device"),
    "no number": (
        replaced(1, "channel: [[1, x], [1, 2]]"),
        "p.yaml:1: channel[0][1]: the text 'x' is no complex number",
        "like 1-2j",
    ),
    "true": (replaced(2, "target_gains: true"), "p.yaml:2: target_gains: true is no number"),
    "quoted number": (
        replaced(2, "target_gains: '0.2'"),
        "p.yaml:2: target_gains: ",
        "0.2",
        "without quotes",
    ),
    "parts differ": (
        replaced(1, "channel: {re: [[1, 2]], im: [[1]]}"),
        "p.yaml:1: channel.im: re holds 1 x 2 numbers, but im holds 1 x 1",
    ),
    "unknown part": (replaced(1, "channel: {re: [[1]], imag: [[1]]}"), "channel.imag: unknown field"),
    "no array": (replaced(1, "channel: {real: [[1]]}"), "a mapping with real is no array"),
    "no model": (replaced(1, "channel: {rayleigh: {devices: 3}}"), "channel.rayleigh: antennas is missing"),
    "model field": (replaced(1, "channel: {rayleigh: {device: 3, antennas: 2}}"), "did you mean 'devices'"),
    "model number": (
        replaced(1, "channel: {rayleigh: {devices: 3.5, antennas: 2}}"),
        "rayleigh.devices: 3.5 is not",
    ),
    "no file": (replaced(1, "channel: {file: h.npz}"), "p.yaml:1: channel.file: no such file h.npz"),
    "no array file": (replaced(1, "channel: {file: h.csv}"), "h.csv' is no array file", ".npz, .npy, .mat"),
    "power from a file": (
        replaced(3, "power_budget: {file: h.npz}"),
        "has no unit",
        "power_budget_w for watts",
    ),
    "covariance": (
        RECEIVER + "error_covariance: {scale: -1}",
        "p.yaml:5: error_covariance.scale = -1 is not allowed",
    ),
    "covariance shape": (
        RECEIVER + "error_covariance:\n  scale: 1\n  shape: [[1, 2], [3, 4]]",
        "p.yaml:7: error_covariance.shape is not Hermitian",
    ),
    "covariance field": (
        RECEIVER + "error_covariance: {scales: 1}",
        "error_covariance.scales: unknown field",
    ),
    "covariance number": (RECEIVER + "error_covariance: 0.1", "0.1 is no covariance", "scale: 0.01"),
    "antennas": (RECEIVER + "device_antennas: 0", "p.yaml:5: device_antennas = 0 is not allowed"),
    "antennas fraction": (RECEIVER + "device_antennas: 1.5", "device_antennas: 1.5 is not a whole number"),
    "kind": (
        RECEIVER + "kind: reciever",
        "p.yaml:5: kind: the text 'reciever' is no kind of problem",
        "'receiver'",
    ),
    "schema": (RECEIVER + "schema: airsim/1", "p.yaml:5: schema: ", " is not read here", "optim-problem/1"),
    "twice": (RECEIVER + "channel: 1", "p.yaml:5: the key 'channel' stands here twice (first in line 1)"),
    "switch": (replaced(2, "target_gains: no"), "p.yaml:2: 'no' is true or false to some readers"),
    "not finite": (replaced(2, "target_gains: .nan"), "p.yaml:2: '.nan' is not a finite number"),
    "a list": ("- 1\n- 2", "p.yaml: is a list, not a mapping"),
    "empty": ("", "p.yaml:1: is empty"),
    "sizes": (replaced(2, "data_sizes: [1, -1, 2]"), "p.yaml:2: data_sizes: are not all 0 or more"),
    "members twice": (
        replaced(2, "members: [[0, 2], [2]]", COMBINED),
        "p.yaml:2: members: device 1 stands in 0 tasks",
        "every device needs exactly one",
    ),
    "member range": (
        replaced(2, "members: [[0, 2], [3]]", COMBINED),
        "p.yaml:2: members[1][0] = 3 is not allowed",
        "devices are 0 to 2",
    ),
    "member fraction": (
        replaced(2, "members: [[0, 2], [1.5]]", COMBINED),
        "p.yaml:2: members[1][0]: 1.5 is not a whole",
    ),
    "members no list": (replaced(2, "members: 3", COMBINED), "p.yaml:2: members: 3 is no list"),
    "edge rows": (replaced(5, "  - [[5, 6], [1, 2]]", COMBINED), "p.yaml:5: edge_channels[1] has 2 rows"),
    "combined field": (COMBINED + "power_budget: 1 W", "p.yaml:13: power_budget: unknown field"),
    "rank": (replaced(7, "rank_shared: -1", COMBINED), "p.yaml:7: rank_shared = -1 is not allowed"),
    "deviation": (replaced(12, "payload_std: [1, 2, 3]", COMBINED), "p.yaml:12: payload_std has 3 entries"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_said_with_line_value_and_way_out(load, case):
    text, *said = WRONG[case]
    with pytest.raises(FileError) as caught:
        load(text)
    for part in said:
        assert part in str(caught.value)


def test_everything_wrong_is_said_at_once_in_the_order_of_the_lines(load):
    with pytest.raises(FileError) as caught:
        load("x: 1\nchannel: [[y]]\npower_budget: 3\n")
    said = [line for line in str(caught.value).splitlines() if line.startswith("p.yaml")]
    assert [line.split(": ")[0] for line in said] == ["p.yaml"] * 2 + ["p.yaml:1", "p.yaml:2", "p.yaml:3"]


def test_json_is_as_strict_as_yaml_and_names_its_lines(load):
    fields = {
        "channel": [["1-2j", 1], [2, 3]],
        "target_gains": 0.5,
        "power_budget": "1 W",
        "noise_power": "1 W",
    }
    text = json.dumps(fields, indent=1)
    np.testing.assert_array_equal(load(text, "p.json").channel, [[1 - 2j, 1], [2, 3]])
    for change, message in [
        (text.replace("0.5", "NaN"), "p.json:12: 'NaN' is not a finite number"),
        (
            text.replace('"1 W"', "3", 1),
            'p.json:13: power_budget: 3 has no unit\n   13 |  "power_budget": 3,',
        ),
        (text.replace("noise_power", "power_budget"), "'power_budget' stands here twice .first in line 13"),
        (text.replace("0.5,", "0.5"), "p.json:13: not valid JSON: .* missing comma"),
    ]:
        with pytest.raises(FileError, match=message):
            load(change, "p.json")


def test_a_long_line_is_shown_in_part(load):
    with pytest.raises(FileError) as caught:
        load(replaced(2, f"target_gains: [{', '.join(['0.25'] * 5000)}, x]"))
    assert max(map(len, str(caught.value).splitlines())) < 200
    shown, arrow = str(caught.value).splitlines()[1:3]
    assert shown[arrow.index("^")] == "x"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("q.yaml", r"q.yaml: no such file\n    did you mean 'p.yaml'"),
        ("p.txt", "the suffix '.txt' is unknown\n    name a file that ends in .yaml"),
        ("p", "has no suffix"),
        ("folder.yaml", "is a folder"),
        ("latin.yaml", "is not UTF-8 text .byte 9"),
    ],
)
def test_a_file_that_is_no_problem_file_is_refused(load, tmp_path, name, message):
    load(RECEIVER)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"channel: \xe9")
    with pytest.raises(FileError, match=message):
        optim.load_problem(name)
