"""The aggregation methods: a table of all, or one in full."""

import textwrap

from rich.console import Console
from rich.table import Table

from airsim.errors import AirsimError
from airsim.learn.operators.catalogue import METHODS
from airsim.learn.operators.method import Method
from airsim.report.tables import key_value_table
from airsim.scenario.names import nearest

LEGEND = (
    "Reals per adapted matrix (d outputs, n inputs, c = d + n), device and round.\n"
    "linear: one superposed vector for any number of devices; masked: so after ranks or scalars;\n"
    "nonlinear: every upload in a slot of its own, or dense products superposed.\n"
    "A complex symbol carries two reals. `airsim methods NAME` says more."
)
TEXT_WIDTH = 88


def show_methods(name: str | None) -> None:
    """Print the table, or one entry.

    Raises:
        AirsimError: there is no method of this name.
    """
    console = Console(highlight=False)
    table = methods_table() if name is None else method_table(_found(name))
    console.width = max(console.width, Console(width=10_000).measure(table).maximum)
    console.print(table)
    if name is None:
        console.print(LEGEND, markup=False, soft_wrap=True)


def methods_table() -> Table:
    """One row per method."""
    table = Table(title="Aggregation methods", title_justify="left")
    for column in ("name", "on air", "upload", "broadcast", "mixed ranks"):
        table.add_column(column, no_wrap=True)
    for method in METHODS.values():
        cells = (method.upload, method.broadcast, method.mixed_ranks)
        table.add_row(method.name, method.on_air.name.lower(), *cells)
    return table


def method_table(method: Method) -> Table:
    """Everything that the catalogue says about one method."""
    rows = [
        ("devices train", method.trains),
        ("definition", method.definition),
        ("upload", f"{method.upload} reals per matrix, device and round"),
        ("broadcast", f"{method.broadcast} reals per matrix, device and round"),
        ("control channel", f"{method.control}, per device and round"),
        ("exact", method.exact),
        ("mixed ranks", method.mixed_ranks),
        ("on air", f"{method.on_air.name.lower()}: {method.over_the_air}"),
        ("reading", method.reading or "as published"),
        ("source", f"[{method.key}] in DESIGN.md"),
        ("operator", f"{method.operator.__module__}.{method.operator.__name__}"),
    ]
    return key_value_table(method.name, [(what, _told(text)) for what, text in rows])


def _found(name: str) -> Method:
    if name in METHODS:
        return METHODS[name]
    meant = nearest(name, METHODS)
    hint = f"; did you mean {meant}?" if meant else "."
    raise AirsimError(f"no aggregation method {name!r}{hint} There are {', '.join(METHODS)}")


def _told(text: str) -> str:
    """Wrapped, and with brackets that rich would take for markup made plain."""
    return "\n".join(textwrap.wrap(text, TEXT_WIDTH)).replace("[", "\\[")
