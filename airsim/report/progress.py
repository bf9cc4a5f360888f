"""What a person sees while runs run: a bar in a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from airsim import store
from airsim.errors import ResultsError
from airsim.report.tables import print_sweep, summary_line
from airsim.scenario import Scenario

LINES_PER_RUN = 10


def show_run(scenario: Scenario, out: Path | None, threads: int) -> None:
    """Run a scenario with progress, then say what came out and where it is."""
    from airsim.simulate import default_folder, is_finished, run

    console = Console(highlight=False)
    folder = out or default_folder(scenario)
    if is_finished(scenario, folder):
        result = run(scenario, out=folder)
        console.print("already finished, nothing to do:")
    elif console.is_terminal:
        with _bar(console) as progress:
            task = progress.add_task(scenario.name, total=scenario.stop.rounds, note="")
            result = run(
                scenario,
                out=folder,
                on_round=lambda metrics: progress.update(task, advance=1, note=_note(metrics)),
                threads=threads,
            )
    else:
        printer = _line_printer(console, scenario.stop.rounds)
        result = run(scenario, out=folder, on_round=printer, threads=threads)
    console.print(summary_line(result.summary))
    console.print(f"saved {folder}", soft_wrap=True)


def show_sweep(scenario: Scenario, out: Path | None, workers: int) -> int:
    """Run a sweep with progress, print its table, and return how many trials failed."""
    from airsim.study import TrialOutcome, read_sweep, sweep

    console = Console(highlight=False)
    total = len(scenario.trials()) if scenario.sweep is not None else 0
    with _bar(console) as progress:
        task = progress.add_task(scenario.name, total=total, note="")

        def told(outcome: TrialOutcome) -> None:
            progress.update(task, advance=1)
            if not console.is_terminal:
                console.print(_trial_line(outcome), soft_wrap=True)

        result = sweep(scenario, out=out, workers=workers, on_trial=told)
    print_sweep(console, read_sweep(result.folder))
    skipped = sum(outcome.skipped for outcome in result.outcomes)
    if skipped:
        console.print(f"{skipped} of {total} trials were finished before and not repeated")
    for outcome in result.failures:
        console.print(f"failed: {_named(outcome)}: {outcome.failure}", soft_wrap=True)
    console.print(f"saved {result.folder / 'results.csv'}", soft_wrap=True)
    return len(result.failures)


def show_figures(folder: Path, out: Path | None) -> None:
    """Draw what a folder holds and say where the figures are."""
    from airsim.report.figures import draw_all, run_drawings, sweep_drawings
    from airsim.study import read_sweep

    if not folder.is_dir():
        raise ResultsError(
            f"{folder}: no such folder; give a folder that airsim run or airsim sweep has written"
        )
    single = (folder / store.MANIFEST).is_file()
    drawings = run_drawings(store.read_run(folder)) if single else sweep_drawings(read_sweep(folder))
    console = Console(highlight=False)
    for path in draw_all(drawings, out or folder / "figures"):
        console.print(str(path), soft_wrap=True)
    for drawing in drawings:
        for curve in drawing.lines:
            if curve.omitted:
                at = ", ".join(f"{x:g}" for x in curve.omitted)
                console.print(
                    f"{drawing.name}: '{curve.label}' is not drawn at {drawing.x} = {at}: a trial failed"
                )


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *columns, TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal
    )


def _note(metrics: Mapping[str, Any]) -> str:
    return f"Pi_t {metrics['pi_predicted']:.1e}  loss {metrics['loss']:.3f}"


def _line_printer(console: Console, rounds: int) -> Any:
    every = max(1, rounds // LINES_PER_RUN)

    def told(metrics: Mapping[str, Any]) -> None:
        if metrics["round"] % every == 0 or metrics["round"] == rounds:
            accuracy = f"  accuracy {metrics['accuracy']:.3f}" if "accuracy" in metrics else ""
            console.print(f"round {metrics['round']}/{rounds}  {_note(metrics)}{accuracy}", soft_wrap=True)

    return told


def _named(outcome: Any) -> str:
    values = ", ".join(f"{key}={value}" for key, value in outcome.trial.values.items())
    return f"{values}, seed={outcome.trial.seed}" if values else f"seed={outcome.trial.seed}"


def _trial_line(outcome: Any) -> str:
    if outcome.failure is not None:
        return f"failed  {_named(outcome)}: {outcome.failure}"
    state = "kept" if outcome.skipped else "done"
    return f"{state}  {_named(outcome)}: accuracy {outcome.summary['accuracy']:.3f}"
