"""One scenario, one run: the clock drives the numbers, and the rounds become a folder."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from airsim import store
from airsim.build import Simulation, build_simulation, fingerprint
from airsim.des import RoundRecord, run_rounds
from airsim.errors import ScenarioError
from airsim.learn.parallel import allowed_threads
from airsim.scenario import SUBJECT_OF, Scenario

OnRound = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    `metrics` holds one list per quantity with one entry per round; NaN where a round was not evaluated.
    `summary` is what a row of a sweep's table shows. `folder` is None for a run that was not saved.
    """

    fingerprint: str
    metrics: Mapping[str, list[Any]]
    summary: Mapping[str, float | int]
    folder: Path | None


def run(
    scenario: Scenario,
    *,
    out: Path | str | None = None,
    on_round: OnRound | None = None,
    threads: int = 1,
) -> RunResult:
    """Simulate a scenario; with `out`, keep the run in that very folder.

    A folder that already holds this run is read instead of computed again. `on_round` receives the
    metrics of each round as it ends. More `threads` share the devices of a large cohort; the bits stay.

    Raises:
        ValueError: fewer than one thread.
        ScenarioError, DataError: the scenario cannot be built, or is a sweep.
        DivergenceError: training left the finite numbers; nothing is kept.
        ResultsError: `out` holds something else.
    """
    if scenario.sweep is not None:
        raise ScenarioError(
            f"scenario '{scenario.name}' sweeps over {len(scenario.trials())} trials: use sweep, "
            "or set sweep=null for a single run of its base values"
        )
    if threads < 1:
        raise ValueError(f"threads = {threads}: give at least 1")
    name = fingerprint(scenario)
    with allowed_threads(threads):
        return _run_or_read(scenario, name, out, on_round)


def _run_or_read(
    scenario: Scenario, name: str, out: Path | str | None, on_round: OnRound | None
) -> RunResult:
    if out is None:
        return _result(name, _simulate(scenario, on_round), None)
    folder = Path(out).resolve()  # links and dots are settled before anything is computed
    if store.finished_run(folder, name) is None:
        _simulate_into(folder, name, scenario, on_round)
    stored = store.finished_run(folder, name) or store.read_run(folder)
    return _result(name, stored.rounds, Path(out))


def default_folder(scenario: Scenario) -> Path:
    """Where a run is kept unless told otherwise: its name and fingerprint under `runs/`."""
    return Path("runs") / f"{scenario.name}-{fingerprint(scenario)}"


def is_finished(scenario: Scenario, folder: Path) -> bool:
    """Whether this folder already holds this run."""
    return store.finished_run(folder, fingerprint(scenario)) is not None


@dataclass
class _Recorder:
    """Collects the rounds, and writes them to a stream where there is one."""

    on_round: OnRound | None
    metrics_stream: TextIO | None = None
    timeline_stream: TextIO | None = None
    rounds: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, metrics: Mapping[str, Any]) -> None:
        self.rounds.append(metrics)
        if self.metrics_stream is not None:
            store.append_line(self.metrics_stream, metrics)
        if self.on_round is not None:
            self.on_round(metrics)

    def add_timeline(self, record: RoundRecord) -> None:
        if self.timeline_stream is not None:
            for span in record.spans:
                store.append_line(self.timeline_stream, {"round": record.round_index, **asdict(span)})


def _simulate_into(folder: Path, name: str, scenario: Scenario, on_round: OnRound | None) -> None:
    started = time.time()
    with one_thread():
        simulation = build_simulation(scenario)  # what cannot be built leaves no folder
    with store.run_draft(folder) as draft:
        (draft / store.SCENARIO).write_text(scenario.resolved_yaml(), encoding="utf-8")
        with (
            (draft / store.METRICS).open("w", encoding="utf-8") as metrics,
            (draft / store.TIMELINE).open("w", encoding="utf-8") as timeline,
        ):
            rounds = _run(scenario, simulation, _Recorder(on_round, metrics, timeline))
        learned = {name: tensor.cpu() for name, tensor in simulation.engine.named_tensors().items()}
        save_file(learned, draft / store.ADAPTERS)
        manifest = {
            "fingerprint": name,
            "name": scenario.name,
            "seed": scenario.seed,
            "results_version": store.RESULTS_VERSION,
            "data_checksum": simulation.data_checksum,
            "summary": summarise(rounds),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "wall_s": round(time.time() - started, 3),
            **store.environment(),
        }
        store.write_atomically(draft / store.MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _simulate(scenario: Scenario, on_round: OnRound | None) -> list[Mapping[str, Any]]:
    with one_thread():
        simulation = build_simulation(scenario)
    return _run(scenario, simulation, _Recorder(on_round))


def _run(scenario: Scenario, simulation: Simulation, recorder: _Recorder) -> list[Mapping[str, Any]]:
    engine, last = simulation.engine, scenario.stop.rounds - 1
    spent_j = 0.0

    def close(record: RoundRecord) -> None:
        nonlocal spent_j
        spent_j += record.energy_j
        done = record.round_index + 1
        metrics: dict[str, Any] = {
            "round": done,
            "sim_time_s": record.stop_s,
            "energy_j": spent_j,
            "channel_uses": engine.channel_uses,
            **engine.metrics,
        }
        if done % scenario.record.evaluate_every == 0 or record.round_index == last:
            metrics |= engine.evaluate()
        if record.round_index < scenario.record.timeline_rounds:
            recorder.add_timeline(record)
        recorder.add(metrics)

    with one_thread():
        run_rounds(simulation.profile, engine, scenario.stop.rounds, close)
    return recorder.rounds


def summarise(rounds: list[Mapping[str, Any]]) -> dict[str, float | int]:
    """The row that stands for a run: last accuracies and loss, mean Pi_t over the rounds, totals."""
    final = rounds[-1]
    return {
        "accuracy": final["accuracy"],
        "accuracy_worst_task": final["accuracy_worst_task"],
        "loss": final["loss"],
        "pi_predicted": sum(entry["pi_predicted"] for entry in rounds) / len(rounds),
        "pi_realised": sum(entry["pi_realised"] for entry in rounds) / len(rounds),
        "sim_time_s": final["sim_time_s"],
        "energy_j": final["energy_j"],
        "channel_uses": final["channel_uses"],
        "rounds": len(rounds),
        **{name: final[name] for name in SUBJECT_OF if name in final},
    }


def _result(name: str, rounds: Any, folder: Path | None) -> RunResult:
    keys = dict.fromkeys(key for entry in rounds for key in entry)
    metrics = {key: [entry.get(key, float("nan")) for entry in rounds] for key in keys}
    return RunResult(name, metrics, summarise(list(rounds)), folder)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run kernels on one thread: bits then depend neither on the number of cores nor on its choice.

    Several threads share pieces of work instead, each with kernels of one thread.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
