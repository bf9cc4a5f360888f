"""Sweeps: one row per trial in the order of the sweep, whatever the order of completion."""

import csv
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time

import pytest

from airsim import run, simulate, sweep
from airsim.build import fingerprint
from airsim.errors import DataError, ResultsError, ScenarioError
from airsim.learn.models.plans import MlpPlan
from airsim.learn.pretraining import random_base, save_base
from airsim.randomness import RandomStreams
from airsim.study import read_sweep

COLUMNS = [
    "seed",
    "accuracy",
    "accuracy_worst_task",
    "loss",
    "pi_predicted",
    "pi_realised",
    "sim_time_s",
    "energy_j",
    "channel_uses",
    "rounds",
]
GRID = {"channel.snr": ["0 dB", "20 dB"], "network.devices.per_edge_server": [2, 3]}


def read(folder):
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def metrics(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("trials/*/metrics.jsonl")}


def test_rows_stand_in_the_order_of_the_sweep_and_are_the_single_runs(scenario, tmp_path):
    config = scenario(sweep={"grid": GRID, "repeat": 2})
    sweep(config, out=tmp_path / "s")
    header, *rows = read(tmp_path / "s")
    assert header == [*GRID, *COLUMNS]
    points = [(snr, str(k), str(seed)) for snr in ("0 dB", "20 dB") for k in (2, 3) for seed in (2026, 2027)]
    assert [tuple(row[:3]) for row in rows] == points
    single = run(config.with_overrides({"sweep": None, "channel.snr": "20 dB", "seed": 2027}))
    assert [float(cell) for cell in rows[5][3:]] == list(single.summary.values())


def test_one_worker_and_two_give_the_same_bits(scenario, tmp_path):
    config = scenario(sweep={"grid": GRID}, learning__batch=5)
    for workers in (1, 2):
        sweep(config, out=tmp_path / str(workers), workers=workers)
    assert (tmp_path / "1/results.csv").read_bytes() == (tmp_path / "2/results.csv").read_bytes()
    assert metrics(tmp_path / "1") == metrics(tmp_path / "2")


def test_a_sweep_goes_on_where_it_stopped_and_grows_without_repeating(scenario, tmp_path):
    sweep(scenario(sweep={"grid": {"channel.snr": ["0 dB"]}}), out=tmp_path / "s")
    told = []
    wider = scenario(sweep={"grid": {"channel.snr": ["20 dB", "0 dB"]}})
    sweep(wider, out=tmp_path / "s", on_trial=told.append)
    assert {outcome.trial.values["channel.snr"]: outcome.skipped for outcome in told} == {
        "20 dB": False,
        "0 dB": True,
    }
    assert [row[0] for row in read(tmp_path / "s")[1:]] == ["20 dB", "0 dB"]


def test_a_failed_trial_has_empty_cells_and_a_reason_and_the_others_go_on(scenario, tmp_path):
    config = scenario(sweep={"grid": {"learning.learning_rate": [0.1, 1e6]}}, stop__rounds=30)
    result = sweep(config, out=tmp_path / "s")
    _, good, bad = read(tmp_path / "s")
    assert float(good[2]) > 0
    assert bad[2:] == [""] * (len(COLUMNS) - 1)
    [failure] = json.loads((tmp_path / "s/failures.json").read_text())
    assert failure["learning.learning_rate"] == 1e6 and "learning.learning_rate" in failure["reason"]
    assert len(result.failures) == 1
    sweep(scenario(sweep={"grid": {"learning.learning_rate": [0.1]}}, stop__rounds=30), out=tmp_path / "s")
    assert not (tmp_path / "s/failures.json").exists()


def test_paired_points_share_their_seeds_and_unpaired_ones_do_not(scenario):
    grid = {"channel.snr": ["0 dB", "20 dB"]}
    paired = scenario(sweep={"grid": grid, "repeat": 2})
    unpaired = scenario(sweep={"grid": grid, "repeat": 2, "paired": False})
    assert [trial.seed for trial in paired.trials()] == [2026, 2027, 2026, 2027]
    assert len({trial.seed for trial in unpaired.trials()}) == 4


def test_a_scenario_without_a_sweep_and_a_strangers_folder_are_refused(scenario, tmp_path):
    with pytest.raises(ScenarioError, match="has no sweep block"):
        sweep(scenario(), out=tmp_path / "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("precious")
    with pytest.raises(ResultsError, match="is not a sweep folder"):
        sweep(scenario(sweep={"grid": GRID}), out=tmp_path / "other")
    with pytest.raises(ValueError, match="workers = 0"):
        sweep(scenario(sweep={"grid": GRID}), out=tmp_path / "s", workers=0)


def test_a_stored_sweep_knows_its_scenario_and_its_keys(scenario, tmp_path):
    sweep(scenario(sweep={"grid": GRID}), out=tmp_path / "s")
    stored = read_sweep(tmp_path / "s")
    assert stored.swept_keys == tuple(GRID)
    assert stored.scenario.sweep is not None and len(stored.rows) == 4
    with pytest.raises(ResultsError, match="is not a sweep folder"):
        read_sweep(tmp_path)


def test_an_interrupted_sweep_ends_at_once_and_leaves_only_finished_trials(scenario, tmp_path):
    config = scenario(sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}}, stop__rounds=100_000)
    (tmp_path / "s.yaml").write_text(config.resolved_yaml())
    command = [sys.executable, "-m", "airsim", "sweep", str(tmp_path / "s.yaml"), "--workers", "2"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "s")], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("s/trials/.*.partial/timeline.jsonl"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # to the parent alone, as a scheduler does
    assert process.wait(timeout=60) == 130
    assert list((tmp_path / "s/trials").iterdir()) == []
    assert not (tmp_path / "s/results.csv").exists()


def test_a_worker_that_dies_is_a_failure_with_a_reason(scenario, tmp_path):
    config = scenario(sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}}, stop__rounds=100_000)
    killer = threading.Thread(target=_kill_workers, args=(tmp_path / "s",))
    killer.start()
    result = sweep(config, out=tmp_path / "s", workers=2)
    killer.join()
    assert len(result.failures) == 2
    assert "its worker process died" in result.failures[0].failure
    assert [row[2:] for row in read(tmp_path / "s")[1:]] == [[""] * (len(COLUMNS) - 1)] * 2


def _kill_workers(folder):
    while len(list(folder.glob("trials/.*.partial/timeline.jsonl"))) < 2:
        time.sleep(0.1)
    for child in multiprocessing.active_children():
        child.kill()


def test_points_with_one_fingerprint_are_run_once_and_have_a_row_each(scenario, tmp_path):
    told = []
    bases = [{"kind": "file", "path": str(tmp_path / name)} for name in ("a.safetensors", "b.safetensors")]
    save_base(random_base(MlpPlan((64, 16, 10)), RandomStreams(0)), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    config = scenario(sweep={"grid": {"learning.model.base": bases}})
    assert len({fingerprint(trial.scenario) for trial in config.trials()}) == 1
    sweep(config, out=tmp_path / "s", workers=2, on_trial=told.append)
    _, one, other = read(tmp_path / "s")
    assert len(told) == 1 and one[0] != other[0] and one[1:] == other[1:]


def test_another_scenario_in_the_same_folder_does_not_keep_the_old_table(scenario, tmp_path, monkeypatch):
    sweep(scenario(sweep={"grid": GRID}), out=tmp_path / "s")
    monkeypatch.setattr("airsim.study.engine._run_all", lambda jobs, workers: iter([1 / 0]))
    with pytest.raises(ZeroDivisionError):
        sweep(scenario(sweep={"grid": GRID}, stop__rounds=4), out=tmp_path / "s")
    with pytest.raises(ResultsError, match=r"no results\.csv yet"):
        read_sweep(tmp_path / "s")


def test_an_unforeseen_error_in_one_trial_does_not_take_the_others_with_it(scenario, tmp_path, monkeypatch):
    real = simulate.build_simulation

    def failing(config):
        if config.channel.snr == 1.0:
            raise ArithmeticError("singular")
        return real(config)

    monkeypatch.setattr(simulate, "build_simulation", failing)
    result = sweep(scenario(sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}}), out=tmp_path / "s")
    assert [outcome.failure for outcome in result.outcomes] == ["ArithmeticError: singular", None]


def test_workers_end_with_the_process_that_started_them(scenario, tmp_path):
    config = scenario(sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}}, stop__rounds=100_000)
    (tmp_path / "s.yaml").write_text(config.resolved_yaml())
    command = [sys.executable, "-m", "airsim", "sweep", str(tmp_path / "s.yaml"), "--workers", "2"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "s")], stdout=subprocess.DEVNULL)
    while len(drafts := list(tmp_path.glob("s/trials/.*.partial/metrics.jsonl"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(2)
    sizes = [draft.stat().st_size for draft in drafts]
    time.sleep(1)
    assert [draft.stat().st_size for draft in drafts] == sizes  # nobody writes any more


def test_a_file_that_cannot_be_used_leaves_no_sweep_folder(scenario, tmp_path):
    base = {"kind": "file", "path": str(tmp_path / "nowhere.safetensors")}
    with pytest.raises(DataError, match="nowhere"):
        sweep(scenario(sweep={"grid": GRID}, learning__model__base=base), out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_another_sweep_is_never_overwritten(scenario, tmp_path):
    sweep(scenario(sweep={"grid": GRID}), out=tmp_path / "s")
    before = (tmp_path / "s/results.csv").read_bytes()
    with pytest.raises(ResultsError, match="holds another sweep, 'quickstart': choose another --out"):
        sweep(scenario(sweep={"grid": GRID}, name="other"), out=tmp_path / "s")
    assert (tmp_path / "s/results.csv").read_bytes() == before
