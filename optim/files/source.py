"""A file's content as a tree, and errors that point into the file."""

import difflib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optim.places import Entry, Flaw, Mark, Path, excerpt

Tree = Mapping[str, Any]

# Between the parts of a name in files whose names are flat: `error_covariance__scale`.
SEPARATOR = "__"


class FileError(ValueError):
    """A file cannot be used; the text names file, line, field, value and the way out, once per flaw."""


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a tree, at a path in it; `at_key` says that the name is wrong, not its value."""

    path: Path
    message: str
    hint: str
    at_key: bool = False


class FindingError(ValueError):
    """Raised where a value turns out wrong; the reader of the file collects its `finding`."""

    def __init__(self, path: Path, message: str, hint: str, at_key: bool = False) -> None:
        super().__init__(f"{message}: {hint}")
        self.finding = Finding(path, message, hint, at_key)


@dataclass(frozen=True)
class Source:
    """What a file holds. `places` is only called when an error needs lines; array files have none."""

    name: str
    folder: pathlib.Path
    tree: Tree
    places: Callable[[], Mapping[Path, Entry]] | None = None

    def spell(self, path: Path) -> str:
        """The path as this kind of file writes it: `edge_channels[1]` or `edge_channels__1`."""
        if self.places is None:
            return SEPARATOR.join(str(part) for part in path)
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        return dotted.removeprefix(".")

    def error(self, findings: Iterable[Finding]) -> FileError:
        """All findings as one error, in the order of their lines."""
        places = self.places() if self.places else {}
        blocks = sorted((self._block(finding, places) for finding in findings), key=lambda block: block[0])
        return FileError("\n".join(text for _, text in blocks))

    def _block(self, finding: Finding, places: Mapping[Path, Entry]) -> tuple[int, str]:
        said = finding.message
        if finding.path and not said.startswith(str(finding.path[0])):
            said = f"{self.spell(finding.path)}: {said}"
        found = next((p for n in range(len(finding.path), 0, -1) if (p := finding.path[:n]) in places), None)
        if found is None:
            return 0, f"{self.name}: {said}\n    {finding.hint}"
        mark = places[found].key if finding.at_key else _of_value(places[found])
        return mark.line, pointed(self.name, mark, said, finding.hint)


def error_of_flaws(name: str, flaws: Sequence[Flaw]) -> FileError:
    """What a strict reader refuses, in the same form."""
    return FileError("\n".join(pointed(name, flaw.mark, flaw.message, flaw.hint) for flaw in flaws))


def pointed(name: str, mark: Mark, said: str, hint: str) -> str:
    """File, line and what is wrong; the line itself; the way out below the place."""
    return f"{name}:{mark.line}: {said}\n{excerpt(mark, hint)}"


def nearest(word: str, names: Iterable[str], otherwise: str = "choose from") -> str:
    """`did you mean ...?`, or all names where none is near."""
    known = list(names)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"{otherwise} {', '.join(known) or 'nothing'}"


def kind_of(value: object) -> str:
    """What a value is, in the words of a file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"the text '{value}'" if isinstance(value, str) else f"{value}"


def _of_value(entry: Entry) -> Mark:
    return entry.value if entry.value.line == entry.key.line else entry.key
