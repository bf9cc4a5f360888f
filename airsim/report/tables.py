"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from airsim.study.table import StoredSweep

# As much as fits a terminal of eighty columns; results.csv has the rest.
SHOWN = {
    "accuracy": "accuracy",
    "accuracy_worst_task": "worst",
    "pi_predicted": "Pi_t",
    "pi_realised": "realised",
}


def sweep_table(stored: StoredSweep) -> Table:
    """One row per trial: swept values, seed, and what was measured."""
    headings = {key: key.rsplit(".", 1)[-1] for key in stored.swept_keys} | {"seed": "seed"} | SHOWN
    table = Table(title=f"{stored.scenario.name}: {len(stored.rows)} trials", title_justify="left")
    for heading in headings.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in stored.rows:
        table.add_row(*(shown(row[column]) if column in SHOWN else row[column] for column in headings))
    return table


def key_value_table(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Two columns: what, and how much."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="left")
    for name, value in rows:
        table.add_row(name, value)
    return table


def summary_line(summary: Mapping[str, Any]) -> str:
    """The two lines that end a run."""
    return (
        f"sim time {summary['sim_time_s']:.3g} s   accuracy {summary['accuracy']:.3f} "
        f"(worst task {summary['accuracy_worst_task']:.3f})   mean Pi_t {summary['pi_predicted']:.2e}\n"
        f"channel uses {summary['channel_uses']:.3g}   energy {summary['energy_j']:.3g} J"
    )


def shown(text: str) -> str:
    """A cell: numbers shortened to three digits, the rest as it is, a missing value as a dash."""
    if text == "":
        return "-"
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
