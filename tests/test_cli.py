"""The command line as a user meets it: what it prints, what it writes, how it ends."""

import re

import pytest
from typer.testing import CliRunner

from airsim.cli import app


@pytest.fixture
def airsim(tmp_path, monkeypatch):
    """The command `airsim` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def file(scenario, tmp_path):
    """A scenario file with changes by dotted key."""

    def write(name="small.yaml", **changes):
        path = tmp_path / name
        path.write_text(scenario(**changes).resolved_yaml())
        return str(path)

    return write


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_tells_its_progress_its_summary_and_where_it_is(airsim, file, tmp_path):
    result = airsim("run", file())
    assert result.exit_code == 0, result.output
    assert "round 3/3" in result.output
    assert re.search(r"accuracy 0\.\d+ \(worst task 0\.\d+\)   mean Pi_t \d\.\d+e-\d+", result.output)
    folder = tmp_path / re.search(r"saved (runs/quickstart-[0-9a-f]+)", result.output)[1]
    assert (folder / "metrics.jsonl").is_file()
    again = airsim("run", file())
    assert "already finished" in again.output and again.exit_code == 0


def test_out_is_the_very_folder(airsim, file, tmp_path):
    assert airsim("run", file(), "--out", "here").exit_code == 0
    assert (tmp_path / "here/manifest.json").is_file()


def test_overrides_change_the_run(airsim, file):
    result = airsim(
        "run", file(), "-s", "uplink.mode=error-free", "-s", 'channel.snr="0 dB"', "--out", "ideal"
    )
    assert "mean Pi_t 0.00e+00" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-s", "channel.snr=20"], "20 dB"),
        (["-s", "channel.sn=0 dB"], "snr"),
        (["-s", "stop.rounds"], "="),
        (["-s", "stop.rounds=-3"], "stop.rounds"),
        (["-s", "uplink.mode=perfect"], "error-free"),
        (["-s", "network.devices.per_edge_server=50"], "training_images"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check", "sweep"])
def test_bad_input_is_explained_and_nothing_is_written(airsim, file, tmp_path, command, arguments, told):
    path = file()
    before = everything(tmp_path)
    result = airsim(command, path, *arguments)
    assert result.exit_code == 2
    assert told in result.output and "Traceback" not in result.output
    assert everything(tmp_path) == before


def test_a_missing_file_names_the_bundled_scenarios(airsim):
    result = airsim("run", "quickstrat")
    assert result.exit_code == 2 and "quickstart" in result.output


def test_a_misspelt_key_is_shown_with_file_line_and_nearest_name(airsim, tmp_path):
    (tmp_path / "my.yaml").write_text(
        "schema: airsim/1\nname: mine\nextends: quickstart\nnetwork:\n  devices:\n    per_edge_servr: 5\n"
    )
    result = airsim("check", "my.yaml")
    assert result.exit_code == 2
    assert "my.yaml:6" in result.output and "did you mean 'per_edge_server'" in result.output


def test_a_diverged_run_ends_with_three_and_no_accuracy(airsim, file, tmp_path):
    path = file(learning__learning_rate=1e6, stop__rounds=30)
    result = airsim("run", path, "--out", "run")
    assert result.exit_code == 3 and "learning.learning_rate" in result.output
    assert "saved" not in result.output and not (tmp_path / "run").exists()


def test_check_prints_resolved_values_budget_and_channel_uses_and_runs_nothing(airsim, file, tmp_path):
    path = file()
    before = everything(tmp_path)
    result = airsim("check", path)
    assert result.exit_code == 0, result.output
    for told in (
        "hidden: [16]",
        "base station",
        "edge server 3",
        "channel uses per round",
        "20.0",
        "nothing was run",
    ):
        assert told in result.output
    assert everything(tmp_path) == before


def test_check_computes_the_link_budget_from_path_loss_and_noise(airsim, file):
    physical = {"channel__snr": None, "channel__path_loss": {}, "channel__noise": {"figure": "9 dB"}}
    result = airsim("check", file(**physical))
    assert result.exit_code == 0, result.output
    assert "noise -105.0 dBm" in result.output  # -174 dBm/Hz + 60 dB + 9 dB


def test_a_physical_scenario_runs(airsim, file):
    physical = {"channel__snr": None, "channel__path_loss": {}, "channel__noise": {}}
    fading = {"channel__fading": {"model": "rician", "k_factor": "6 dB"}}
    result = airsim("run", file(**physical, **fading), "--out", "run")
    assert result.exit_code == 0, result.output


def test_a_sweep_prints_its_table_and_a_plot_says_where_the_figures_are(airsim, file, tmp_path):
    grid = {"channel.snr": ["0 dB", "20 dB"], "network.devices.per_edge_server": [2, 3]}
    figures = [{"x": "channel.snr", "y": "accuracy", "hue": "network.devices.per_edge_server"}]
    path = file(sweep={"grid": grid, "repeat": 2}, figures=figures)
    result = airsim("sweep", path)
    assert result.exit_code == 0, result.output
    assert "quickstart: 8 trials" in result.output and "saved runs/quickstart/results.csv" in result.output
    drawn = airsim("plot", "runs/quickstart")
    assert drawn.exit_code == 0, drawn.output
    assert drawn.output.split() == [
        f"runs/quickstart/figures/accuracy-vs-snr.{kind}" for kind in ("pdf", "png", "csv")
    ]
    assert (tmp_path / "runs/quickstart/figures/accuracy-vs-snr.pdf").read_bytes().startswith(b"%PDF")
    kept = airsim("sweep", path)
    assert "8 of 8 trials were finished before" in kept.output


def test_a_sweep_with_failures_ends_with_three(airsim, file):
    grid = {"learning.learning_rate": [0.1, 1e6]}
    result = airsim("sweep", file(sweep={"grid": grid}, stop__rounds=30), "--out", "s")
    assert result.exit_code == 3
    assert "failed: learning.learning_rate=1000000.0" in result.output


def test_run_refuses_a_sweep_and_sweep_refuses_a_single_run(airsim, file):
    swept = airsim("run", file(sweep={"grid": {"channel.snr": ["0 dB"]}}))
    assert swept.exit_code == 2 and "use sweep" in swept.output
    single = airsim("sweep", file())
    assert single.exit_code == 2 and "no sweep block" in single.output


def test_a_run_folder_can_be_plotted_over_its_rounds(airsim, file, tmp_path):
    airsim("run", file(), "--out", "run")
    drawn = airsim("plot", "run")
    assert drawn.exit_code == 0, drawn.output
    assert (
        (tmp_path / "run/figures/accuracy-by-round.csv").read_text().splitlines()[0].startswith("line,round")
    )
    assert (tmp_path / "run/figures/pi-by-round.png").is_file()
    assert airsim("run", file(), "--out", "run").exit_code == 0  # figures do not unmake a run


def test_plot_explains_a_folder_without_results(airsim, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, told in (("empty", "is not a sweep folder"), ("nowhere", "no such folder")):
        result = airsim("plot", folder)
        assert result.exit_code == 2 and told in result.output


def test_the_version_is_printed(airsim):
    assert airsim("--version").output.strip() == "0.1.0"


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_place_that_cannot_be_written_is_named_without_a_traceback(airsim, file, tmp_path, command):
    (tmp_path / "taken").write_text("a file")
    grid = {"sweep": {"grid": {"channel.snr": ["0 dB"]}}} if command == "sweep" else {}
    result = airsim(command, file(**grid), "--out", "taken/x")
    assert result.exit_code == 2 and "taken" in result.output and "Traceback" not in result.output
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_bundled_sweep_runs_singly_once_its_sweep_is_taken_out(airsim):
    result = airsim("check", "snr-devices", "-s", "sweep=null")
    assert result.exit_code == 0, result.output


def test_the_table_of_a_sweep_is_never_cut(airsim, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    grid = {
        "learning.adapters": [{"shared_rank": 6, "personal_rank": 2}, {"shared_rank": 1, "personal_rank": 7}],
        "network.base_station.antennas": [1, 2],
        "network.edge_servers.antennas": [1],
    }
    result = airsim("sweep", file(sweep={"grid": grid}), "--out", "s")
    assert result.exit_code == 0 and "\u2026" not in result.output
    for heading in ("network.base_station.antennas", "accuracy", "shared rank 6, personal rank 2"):
        assert heading in result.output
