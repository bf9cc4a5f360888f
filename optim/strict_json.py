"""Read JSON without surprises, and know the line of every value.

Plain readers keep the last of two equal keys, take `NaN` for a number and turn 1e999 into infinity; here
each is an error with its place. Places cost more than the data and are only made when someone asks.
"""

import bisect
import json
import math
import re
from collections.abc import Iterator

from optim.places import Document, Entry, Flaw, Mark, Path, StrictTextError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_SYNTAX_HINTS = (
    ("property name enclosed", "a key without double quotes, or a comma too many", 'write "key": value'),
    ("Expecting ',' delimiter", "a list or mapping that is not closed, or a missing comma", "close it"),
    ("Expecting ':' delimiter", "a key without ':'", 'write "key": value'),
    ("Expecting value", "no value that JSON knows", "text stands in double quotes; comments are not read"),
    ("Extra data", "something follows the end", "one file, one value"),
    ("Unterminated string", "a text that is not closed", "close the double quotes"),
    ("Illegal trailing comma", "a comma too many", "remove it"),
    ("Invalid control character", "a line break or tab within a text", r"write \n or \t"),
    ("escape", "an escape that JSON does not know", r"write \\ for a backslash"),
)


class StrictJsonError(StrictTextError):
    """The text is not JSON, or JSON that different readers understand differently."""


class _SurpriseError(ValueError):
    """Something that plain readers pass over."""


def load(text: str) -> object:
    """The data of one text; a StrictJsonError lists everything that is wrong with it."""
    try:
        return _load(text)
    except json.JSONDecodeError as error:
        raise StrictJsonError((_syntax_flaw(error, text),)) from None
    except RecursionError:
        raise StrictJsonError((Flaw(_mark(text, 0), (), "is nested too deeply", "flatten it"),)) from None


def locate(text: str) -> Document:
    """The data of a text that `load` accepts, and all its places."""
    walk = _Walk(text)
    return Document(load(text), {path: Entry(key, value) for path, key, value, _ in walk.values()})


def _load(text: str) -> object:
    try:
        return json.loads(
            text, object_pairs_hook=_mapping, parse_constant=_constant, parse_float=_finite, parse_int=_whole
        )
    except _SurpriseError:
        json.loads(text, parse_int=float)  # the walk relies on the syntax
        raise StrictJsonError(tuple(_Walk(text).surprises())) from None


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise _SurpriseError
    return data


def _constant(name: str) -> float:
    raise _SurpriseError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _SurpriseError(text)
    return value


def _whole(text: str) -> int:
    if len(text) > 100:
        raise _SurpriseError(text)
    return int(text)


class _Walk:
    """Goes through the tokens of a text whose syntax is known to be right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        lengths = [0]
        for line in self.lines:
            lengths.append(lengths[-1] + len(line) + 1)
        self.starts = lengths[:-1]
        self.tokens = list(_TOKEN.finditer(text))

    def mark(self, token: re.Match[str]) -> Mark:
        line = bisect.bisect_right(self.starts, token.start()) - 1
        return Mark(line + 1, token.start() - self.starts[line], self.lines[line])

    def values(self) -> Iterator[tuple[Path, Mark, Mark, str]]:
        """Path, place of key and value, and first token of every value; the whole has path ()."""
        path: list[str | int] = []
        key, index = None, 0
        while index < len(self.tokens):
            token = self.tokens[index]
            symbol = token[0]
            if symbol in "]}":
                path.pop()
            elif symbol == ",":
                if isinstance(path[-1], int):
                    path[-1] += 1
            elif path and isinstance(path[-1], str) and self._is_key(index):
                path[-1], key, index = json.loads(symbol), token, index + 1  # the colon is passed over
            else:
                yield tuple(path), self.mark(key or token), self.mark(token), symbol
                key = None
                if symbol in "[{":
                    path.append(0 if symbol == "[" else "")
            index += 1

    def surprises(self) -> Iterator[Flaw]:
        seen: dict[Path, Mark] = {}
        for path, key, value, symbol in self.values():
            if path in seen:
                message = f"the key '{path[-1]}' stands here twice (first in line {seen[path].line})"
                yield Flaw(key, path, message, "keep one of the two")
            seen[path] = key
            if symbol in ("NaN", "Infinity", "-Infinity"):
                yield Flaw(value, path, f"'{symbol}' is not a finite number", "write a finite number")
            elif symbol[0] in "-0123456789" and (len(symbol) > 100 or not math.isfinite(float(symbol))):
                yield Flaw(
                    value, path, f"'{symbol[:20]}' is too large for a number", "write a smaller number"
                )

    def _is_key(self, index: int) -> bool:
        return index + 1 < len(self.tokens) and self.tokens[index + 1][0] == ":"


def _mark(text: str, position: int) -> Mark:
    before = text[:position]
    line = before.count("\n")
    return Mark(line + 1, position - (before.rfind("\n") + 1), text.split("\n")[line])


def _syntax_flaw(error: json.JSONDecodeError, text: str) -> Flaw:
    mark = _mark(text, error.pos)
    if not text.strip():
        return Flaw(mark, (), "is empty", "write at least one value")
    for fragment, message, hint in _SYNTAX_HINTS:
        if fragment in error.msg:
            return Flaw(mark, (), f"not valid JSON: {message}", hint)
    return Flaw(mark, (), f"not valid JSON: {error.msg}", "check this place")
