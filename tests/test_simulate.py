"""Runs and their folders: the same scenario gives the same bits, and nothing half-written remains."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from airsim import Scenario, run
from airsim.build import fingerprint
from airsim.errors import DivergenceError, ResultsError, ScenarioError

SUMMARY = {"accuracy", "accuracy_worst_task", "loss", "pi_predicted", "pi_realised", "sim_time_s", "energy_j"}


def digest(folder):
    files = ("metrics.jsonl", "adapters.safetensors", "timeline.jsonl", "scenario.lock.yaml")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}


def test_a_run_folder_holds_scenario_manifest_metrics_and_adapters(scenario, tmp_path):
    result = run(scenario(), out=tmp_path / "one")
    assert {path.name for path in result.folder.iterdir()} == {
        "adapters.safetensors",
        "manifest.json",
        "metrics.jsonl",
        "scenario.lock.yaml",
        "timeline.jsonl",
    }
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert ["accuracy" in line for line in lines] == [False, True, True]  # every second round, and the last
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["fingerprint"] == fingerprint(scenario()) and manifest["seed"] == 2026
    assert manifest["versions"]["torch"] and set(manifest["summary"]) >= SUMMARY
    adapters = load_file(result.folder / "adapters.safetensors")
    assert adapters["shared.layer0.a"].shape == (6, 64) and adapters["personal.layer1.b"].shape == (4, 10, 2)


def test_the_lock_file_reproduces_the_run_bit_by_bit(scenario, tmp_path):
    first = run(scenario(learning__batch=5), out=tmp_path / "first")
    again = run(Scenario.load(first.folder / "scenario.lock.yaml"), out=tmp_path / "again")
    assert digest(first.folder) == digest(again.folder)
    assert first.fingerprint == again.fingerprint


def test_metrics_are_one_entry_per_round_with_nan_where_nothing_was_evaluated(scenario):
    seen = []
    result = run(scenario(), on_round=seen.append)
    assert [entry["round"] for entry in seen] == [1, 2, 3]
    assert math.isnan(result.metrics["accuracy"][0]) and result.metrics["accuracy"][-1] > 0
    assert result.folder is None
    assert result.summary["pi_predicted"] == pytest.approx(np.mean(result.metrics["pi_predicted"]))


def test_a_finished_run_is_read_and_not_repeated(scenario, tmp_path):
    first = run(scenario(), out=tmp_path / "run")
    stamp = (first.folder / "metrics.jsonl").stat().st_mtime_ns
    rounds = []
    again = run(scenario(), out=tmp_path / "run", on_round=rounds.append)
    assert rounds == [] and (first.folder / "metrics.jsonl").stat().st_mtime_ns == stamp
    assert again.summary == first.summary and repr(again.metrics) == repr(first.metrics)


def test_another_run_or_a_strangers_folder_is_never_overwritten(scenario, tmp_path):
    run(scenario(), out=tmp_path / "run")
    with pytest.raises(ResultsError, match="holds another run .* choose another --out"):
        run(scenario(seed=1), out=tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(ResultsError, match="is not a run folder"):
        run(scenario(), out=tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


def test_an_empty_folder_may_be_written(scenario, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(scenario(), out=tmp_path / "empty").folder.is_dir()


def test_a_diverged_run_leaves_nothing_behind(scenario, tmp_path):
    with pytest.raises(DivergenceError):
        run(scenario(learning__learning_rate=1e6, stop__rounds=30), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_result_and_the_next_one_cleans_up(scenario, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "long.yaml").write_text(scenario(stop__rounds=100_000).resolved_yaml())
    command = [sys.executable, "-m", "airsim", "run", str(tmp_path / "long.yaml"), "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(".run.*.partial/metrics.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists() and list(tmp_path.glob(".run.*.partial"))
    run(scenario(), out=folder)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "long.yaml"}


def test_a_damaged_run_is_named_and_not_believed(scenario, tmp_path):
    folder = run(scenario(), out=tmp_path / "run").folder
    (folder / "metrics.jsonl").write_text('{"round": 1, "accu')
    with pytest.raises(ResultsError, match="damaged .* delete it and run again"):
        run(scenario(), out=folder)


def test_bits_do_not_depend_on_the_number_of_threads(scenario, tmp_path):
    digests = []
    for threads in ("1", "2"):
        folder = tmp_path / threads
        (tmp_path / "s.yaml").write_text(scenario(learning__model__hidden=[64, 64]).resolved_yaml())
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        command = [sys.executable, "-m", "airsim", "run", str(tmp_path / "s.yaml"), "--out", str(folder)]
        subprocess.run(
            command, check=True, capture_output=True, env=os.environ | dict.fromkeys(names, threads)
        )
        digests.append(digest(folder))
    assert digests[0] == digests[1]


def test_the_timeline_accounts_for_time_and_energy_of_the_first_round(scenario, tmp_path):
    folder = run(scenario(), out=tmp_path / "run").folder
    spans = [json.loads(line) for line in (folder / "timeline.jsonl").read_text().splitlines()]
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert {span["round"] for span in spans} == {0}
    assert max(span["stop_s"] for span in spans) == first["sim_time_s"]
    assert sum(span["energy_j"] for span in spans) == pytest.approx(first["energy_j"])
    phases = {span["phase"] for span in spans}
    assert phases == {"downlink", "compute", "statistics", "s-phase", "p-phase", "merge"}


def test_what_does_not_decide_a_result_is_not_in_the_fingerprint(scenario):
    plain = fingerprint(scenario())
    assert fingerprint(scenario(name="another-name")) == plain
    assert fingerprint(scenario(network__devices__average_power="100 mW")) == plain  # 20 dBm in other words
    assert fingerprint(scenario(seed=1)) != plain
    assert fingerprint(scenario(channel__snr="19 dB")) != plain


def test_two_processes_that_write_the_same_run_both_end_well(scenario, tmp_path):
    (tmp_path / "s.yaml").write_text(scenario(stop__rounds=100).resolved_yaml())
    command = [
        sys.executable,
        "-m",
        "airsim",
        "run",
        str(tmp_path / "s.yaml"),
        "--out",
        str(tmp_path / "run"),
    ]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"s.yaml", "run"}


def test_links_are_settled_before_anything_is_computed(scenario, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    result = run(scenario(), out=tmp_path / "link")
    assert result.folder == tmp_path / "link" and (tmp_path / "elsewhere/manifest.json").is_file()


def test_a_scenario_with_a_sweep_is_no_single_run(scenario):
    with pytest.raises(ScenarioError, match="sweeps over 2 trials"):
        run(scenario(sweep={"grid": {"channel.snr": ["0 dB", "20 dB"]}}))


def test_a_damaged_cached_base_is_trained_again_and_said(scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRSIM_CACHE_DIR", str(tmp_path))
    config = scenario(learning__model__base={"kind": "pretrained", "steps": 5})
    first = run(config)
    [cached] = tmp_path.iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    with pytest.warns(UserWarning, match="damaged and is trained again"):
        again = run(config)
    assert repr(again.metrics) == repr(first.metrics)
