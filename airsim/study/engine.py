"""Run the trials of a sweep, here or in worker processes, each into its own folder."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from airsim import store
from airsim.errors import AirsimError, ResultsError, ScenarioError
from airsim.scenario import Scenario, Trial
from airsim.study.table import (
    FAILURES,
    RESULTS,
    SWEEP_SCENARIO,
    TRIALS,
    write_failures,
    write_results,
)


@dataclass(frozen=True)
class TrialOutcome:
    """What became of one trial: its summary, or the reason why it has none."""

    trial: Trial
    folder: Path
    summary: Mapping[str, float | int]
    failure: str | None
    skipped: bool


@dataclass(frozen=True)
class SweepResult:
    """All trials of a sweep in its own order, and the folder with `results.csv`."""

    folder: Path
    outcomes: tuple[TrialOutcome, ...]

    @property
    def failures(self) -> tuple[TrialOutcome, ...]:
        """Trials that ended without a result."""
        return tuple(outcome for outcome in self.outcomes if outcome.failure is not None)


@dataclass(frozen=True)
class _Job:
    trial: Trial
    folder: Path


OnTrial = Callable[[TrialOutcome], None]


def sweep(
    scenario: Scenario, *, out: Path | str | None = None, workers: int = 1, on_trial: OnTrial | None = None
) -> SweepResult:
    """Run every trial of the scenario's `sweep` block; finished ones are read, not repeated.

    The folder (default: `runs/NAME`) keeps one folder per trial and `results.csv`, whose rows stand in
    the order of the sweep. A trial that fails leaves its columns empty and its reason in `failures.json`;
    the others go on.

    Raises:
        ScenarioError: the scenario has no `sweep` block.
        ResultsError: the folder holds something that is not a sweep.
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers = {workers}: give at least 1")
    if scenario.sweep is None:
        raise ScenarioError(
            f"scenario '{scenario.name}' has no sweep block: use airsim run, or add sweep.grid"
        )
    folder = Path("runs") / scenario.name if out is None else Path(out)
    jobs = _jobs(scenario, folder)
    _claim(folder, scenario)
    outcomes: dict[Path, TrialOutcome] = {}
    for outcome in _run_all(_each_once(jobs), workers):
        outcomes[outcome.folder] = outcome
        if on_trial is not None:
            on_trial(outcome)
    ordered = tuple(replace(outcomes[job.folder], trial=job.trial) for job in jobs)
    write_results(folder, [(o.trial.values, o.trial.seed, o.summary) for o in ordered])
    write_failures(
        folder, [(o.trial.values, o.trial.seed, o.failure) for o in ordered if o.failure is not None]
    )
    return SweepResult(folder, ordered)


def _claim(folder: Path, scenario: Scenario) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / SWEEP_SCENARIO).is_file():
        raise ResultsError(f"{folder} exists and is not a sweep folder: choose another --out")
    (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    lock = folder / SWEEP_SCENARIO
    if lock.is_file() and (other := Scenario.load(lock).name) != scenario.name:
        raise ResultsError(f"{folder} holds another sweep, '{other}': choose another --out")
    if lock.is_file() and lock.read_text(encoding="utf-8") != scenario.resolved_yaml():
        for table in (RESULTS, FAILURES):  # they belong to the scenario that stood here; its trials stay
            (folder / table).unlink(missing_ok=True)
    store.write_atomically(lock, scenario.resolved_yaml())


def _jobs(scenario: Scenario, folder: Path) -> list[_Job]:
    from airsim.build import fingerprint

    return [_Job(trial, folder / TRIALS / fingerprint(trial.scenario)) for trial in scenario.trials()]


def _each_once(jobs: Sequence[_Job]) -> list[_Job]:
    """Points that say the same in other words have one fingerprint and are one run."""
    unique: dict[Path, _Job] = {}
    for job in jobs:
        unique.setdefault(job.folder, job)
    return list(unique.values())


def _run_all(jobs: Sequence[_Job], workers: int) -> Iterator[TrialOutcome]:
    finished = [job for job in jobs if (job.folder / store.MANIFEST).is_file()]
    yield from map(_run_one, finished)  # these are only read: no worker is worth starting for them
    jobs = [job for job in jobs if job not in finished]
    if workers == 1 or len(jobs) <= 1:
        yield from map(_run_one, jobs)
        return
    context = multiprocessing.get_context("spawn")  # forking a process that holds torch's threads can hang
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_follow_parent)
    try:
        waiting: dict[Future[TrialOutcome], _Job] = {pool.submit(_run_one, job): job for job in jobs}
        for future in as_completed(waiting):
            yield _result_of(future, waiting[future])
    except BaseException:
        _stop(pool, set(multiprocessing.active_children()) - others, jobs)
        raise
    pool.shutdown()


def _follow_parent() -> None:
    """A worker ends when interrupted, and when the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else it would drop its trial and take the next one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stop(pool: ProcessPoolExecutor, children: set[BaseProcess], jobs: Sequence[_Job]) -> None:
    """End the workers now, and clear away what they had begun to write."""
    pool.shutdown(wait=False, cancel_futures=True)
    for child in children:
        child.terminate()
    for child in children:
        child.join()
    for job in jobs:
        store.remove_abandoned(job.folder)


def _run_one(job: _Job) -> TrialOutcome:
    from airsim.simulate import run

    skipped = (job.folder / store.MANIFEST).is_file()
    try:
        result = run(job.trial.scenario, out=job.folder)
    except AirsimError as error:
        return TrialOutcome(job.trial, job.folder, {}, str(error), skipped=False)
    except Exception as error:  # one trial's trouble, foreseen or not, must not take the others with it
        reason = f"{type(error).__name__}: {error}"
        return TrialOutcome(job.trial, job.folder, {}, reason, skipped=False)
    return TrialOutcome(job.trial, job.folder, result.summary, None, skipped)


def _result_of(future: Future[TrialOutcome], job: _Job) -> TrialOutcome:
    try:
        return future.result()
    except BrokenProcessPool:
        reason = (
            "its worker process died (killed, out of memory, or started by a script that calls sweep outside "
            "`if __name__ == '__main__':`); run the same again for what is left"
        )
        return TrialOutcome(job.trial, job.folder, {}, reason, skipped=False)
