"""Places in a text file: what a reader found where, and what is wrong there."""

from collections.abc import Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]

# Longer lines are shown in part: a matrix may stand on one line.
SHOWN_WIDTH = 120


@dataclass(frozen=True)
class Mark:
    """A place in the text: line (from 1), column (from 0) and the line as written."""

    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Entry:
    """Where a value stands: its key (or the list item itself) and the value."""

    key: Mark
    value: Mark


@dataclass(frozen=True)
class Flaw:
    """One thing wrong with the text, and the way out."""

    mark: Mark
    path: Path
    message: str
    hint: str


class StrictTextError(ValueError):
    """The text cannot be read, or different readers would understand it differently."""

    def __init__(self, flaws: tuple[Flaw, ...]) -> None:
        super().__init__("\n".join(f"line {f.mark.line}: {f.message} ({f.hint})" for f in flaws))
        self.flaws = flaws


@dataclass(frozen=True)
class Document:
    """The data of one text, and the place of every value by its path."""

    data: object
    entries: Mapping[Path, Entry]


def excerpt(mark: Mark, hint: str) -> str:
    """The line as written, and below it an arrow to the place with the way out."""
    line, column = mark.text.replace("\t", " ").rstrip(), mark.column
    if len(line) > SHOWN_WIDTH:
        start = max(0, min(column - SHOWN_WIDTH // 2, len(line) - SHOWN_WIDTH))
        before, after = "..." if start else "", "..." if start + SHOWN_WIDTH < len(line) else ""
        line, column = before + line[start : start + SHOWN_WIDTH] + after, column - start + len(before)
    return f"{mark.line:>5} | {line}\n      | {' ' * column}^ {hint}"
