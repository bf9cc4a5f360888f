"""The table of a sweep: one row per trial, in the order of the sweep."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from airsim import store
from airsim.errors import ResultsError
from airsim.scenario import SUBJECT_OF, ResultColumn, Scenario

RESULTS = "results.csv"
FAILURES = "failures.json"
TRIALS = "trials"
SWEEP_SCENARIO = "sweep.lock.yaml"

COLUMNS: tuple[str, ...] = get_args(ResultColumn)
EXTRAS: tuple[str, ...] = tuple(name for name in COLUMNS if name in SUBJECT_OF)
MEASURES: tuple[str, ...] = tuple(name for name in COLUMNS if name not in SUBJECT_OF)

Row = tuple[Mapping[str, Any], int, Mapping[str, float | int]]


@dataclass(frozen=True)
class StoredSweep:
    """A sweep read back: the scenario it came from, its swept keys, and its rows as text."""

    folder: Path
    scenario: Scenario
    swept_keys: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


def write_results(folder: Path, rows: Sequence[Row]) -> None:
    """Write `results.csv`; a trial without a result has empty cells, never a number.

    What runs evaluate only when asked has a column where some trial has it.
    """
    keys = list(rows[0][0])
    measures = [*MEASURES, *(name for name in EXTRAS if any(name in summary for _, _, summary in rows))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "seed", *measures])
    for values, seed, summary in rows:
        writer.writerow([*(values[key] for key in keys), seed, *(summary.get(name, "") for name in measures)])
    store.write_atomically(folder / RESULTS, text.getvalue())


def write_failures(folder: Path, failures: Sequence[tuple[Mapping[str, Any], int, str]]) -> None:
    """Write why trials failed; without failures, no file."""
    path = folder / FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    records = [{**values, "seed": seed, "reason": reason} for values, seed, reason in failures]
    store.write_atomically(path, json.dumps(records, indent=2) + "\n")


def read_sweep(folder: Path) -> StoredSweep:
    """Read a sweep folder.

    Raises:
        ResultsError: the folder is no sweep, or its table is not there yet.
    """
    if not (folder / SWEEP_SCENARIO).is_file():
        raise ResultsError(f"{folder} is not a sweep folder: {SWEEP_SCENARIO} is missing")
    if not (folder / RESULTS).is_file():
        raise ResultsError(
            f"{folder} has no {RESULTS} yet: run the same airsim sweep command again to finish it"
        )
    with (folder / RESULTS).open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = tuple(reader)
        columns = list(reader.fieldnames or [])
    if "seed" not in columns or not rows:
        raise ResultsError(f"{folder / RESULTS} is damaged: run the same airsim sweep command again")
    swept = tuple(columns[: columns.index("seed")])
    return StoredSweep(folder, Scenario.load(folder / SWEEP_SCENARIO), swept, rows)
