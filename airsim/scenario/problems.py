"""What validators say: a field, what is wrong with it and the way out."""

from dataclasses import dataclass, replace
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong, at a path below the section that found it.

    `others` are paths that have a part in it: the one written last is the one to look at.
    `names_key` says that the key is wrong and not its value. A problem of a sweep's point names its field as
    `subject`, and in `point` the swept values that bring it about.
    """

    message: str
    hint: str = ""
    path: Path = ()
    others: tuple[Path, ...] = ()
    names_key: bool = False
    subject: Path = ()
    point: tuple[tuple[str, Any], ...] = ()

    def said_at(self, path: Path) -> str:
        """Path and message for who is shown this path: whatever does not stand there is named."""
        about = f"{dotted(self.subject)}: " if self.subject not in ((), path) else ""
        elsewhere = [(key, value) for key, value in self.point if path[:3] != ("sweep", "grid", key)]
        at = ", ".join(f"{key} = {value}" for key, value in elsewhere)
        said = f"{about}{self.message}" + (f" (at {at})" if at else "")
        return f"{dotted(path)}: {said}" if path else said

    def below(self, parent: Path) -> "Problem":
        """The same problem, seen from the section above."""
        others = tuple((*parent, *other) for other in self.others)
        return replace(self, path=(*parent, *self.path), others=others)


class ProblemsError(ValueError):
    """Raised by validators: pydantic collects it, the loader gives each problem its file and line."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{dotted(p.path)}: {p.message} ({p.hint})" for p in problems))
        self.problems = problems


def raise_any(problems: list[Problem]) -> None:
    """Raise all problems at once, if there are any."""
    if problems:
        raise ProblemsError(*problems)


def dotted(path: Path) -> str:
    """The path as it is written after `-s`: `learning.data.tasks.0.share`."""
    return ".".join(str(part) for part in path)


def kind_of(value: object) -> str:
    """What a value is, in the words of a scenario file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return (
        f"the text '{value}'"
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else f"{value}"
    )
