"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from airsim.report.curves import readable
from airsim.study.table import StoredSweep

# As much as fits a terminal of eighty columns; results.csv has the rest.
SHOWN = {
    "accuracy": "accuracy",
    "accuracy_worst_task": "worst",
    "pi_predicted": "Pi_t",
    "pi_realised": "realised",
}
UNBOUNDED = 10_000


def print_sweep(console: Console, stored: StoredSweep) -> None:
    """Print the table of a sweep uncut: with fewer columns in a narrow terminal, else as wide as it is."""
    unbounded = Console(width=UNBOUNDED)
    for dropped in range(len(SHOWN)):
        table = sweep_table(stored, list(SHOWN)[: len(SHOWN) - dropped])
        width = unbounded.measure(table).maximum
        if width <= console.width or not console.is_terminal:
            break
    console.width = max(console.width, width)
    console.print(table)


def sweep_table(stored: StoredSweep, measures: Sequence[str]) -> Table:
    """One row per trial: swept values, seed, and what was measured."""
    columns = [*stored.swept_keys, "seed", *measures]
    table = Table(title=f"{stored.scenario.name}: {len(stored.rows)} trials", title_justify="left")
    for column in columns:
        table.add_column(
            SHOWN.get(column) or _heading(column, stored.swept_keys), justify="right", no_wrap=True
        )
    for row in stored.rows:
        table.add_row(
            *(shown(row[column]) if column in SHOWN else readable(row[column]) for column in columns)
        )
    return table


def _heading(column: str, swept_keys: Sequence[str]) -> str:
    """The last part of a key, or all of it where two keys end alike."""
    last = column.rsplit(".", 1)[-1]
    alike = sum(key.rsplit(".", 1)[-1] == last for key in swept_keys)
    return last if alike <= 1 else column


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
