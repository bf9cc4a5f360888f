"""Read YAML without surprises, and know the line of every value.

Plain PyYAML reads `1e6` as text, `no` as False, `1:30` as 90, `0123` as 83 and keeps the last of two
equal keys without a word. Here each of these has its one sane meaning or is an error with a way out.
"""

import math
import re
from typing import Any

import yaml

from optim.places import Document, Entry, Flaw, Mark, Path, StrictTextError

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
_NULLS = ("null", "Null", "NULL", "~")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_SURPRISES = (
    (re.compile(r"[+-]?0\d+"), "has a leading zero", "write it without the zero, or in quotes if it is text"),
    (re.compile(r"[+-]?0[xob][0-9a-fA-F_]+"), "is not a decimal number", "write the decimal number"),
    (
        re.compile(r"[+-]?\d[\d_]*_[\d_]*"),
        "has an underscore",
        "write the number without it, or in quotes if it is text",
    ),
    (
        re.compile(r"\d+(:\d+)+(\.\d*)?"),
        "could be a time or a ratio",
        "write one number, or quotes if it is text",
    ),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?"), "could be a date", "put it in quotes if it is text"),
    (re.compile(r"[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "is not a finite number", "write a finite number"),
)
_SYNTAX_HINTS = (
    ("'\\t'", "a tab is no indentation in YAML", "use spaces"),
    (
        "mapping values are not allowed",
        "a ':' where no key can stand",
        "check the indentation here and above, or quote the text",
    ),
    ("could not find expected ':'", "a key without ':'", "write `key: value`"),
    ("expected '<document start>'", "this line fits no line above", "align it with its neighbours"),
    ("expected alphabetic or numeric character", "& and * have a meaning of their own", "quote the text"),
    ("expected <block end>", "the indentation fits no line above", "align it with its neighbours"),
    ("expected ',' or ']'", "a list that is not closed", "close it with ]"),
    ("expected ',' or '}'", "a mapping that is not closed", "close it with }"),
    ("expected the node content", "the text breaks off", "complete the list or mapping"),
    ("found unexpected end of stream", "a quote that is not closed", "close the quote"),
    ("found undefined alias", "an alias without its anchor", "write the value itself"),
)


class StrictYamlError(StrictTextError):
    """The text is not YAML, or YAML that different readers understand differently."""


class _AmbiguousError(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}: {hint}")
        self.message, self.hint = message, hint


class _Composer(yaml.BaseLoader):
    """Nodes with their places, no types yet; refuses anchors, since a value stands where it is used."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(
                None,
                None,
                f"'{event.anchor}' is an anchor or alias, which is not read here",
                event.start_mark,
            )
        return super().compose_node(parent, index)


def load(text: str) -> Document:
    """Read one document; a StrictYamlError lists everything that is wrong with it."""
    lines = text.splitlines() or [""]
    reader = _Reader(lines)
    data = reader.read(_compose(text, lines), ())
    if reader.flaws:
        raise StrictYamlError(tuple(reader.flaws))
    return Document(data, reader.entries)


def scalar(text: str) -> object:
    """The one sane meaning of an unquoted value; a ValueError where there is none."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not text:
        raise _AmbiguousError("the value is empty", "write a value, or null to leave it out")
    if text.lower() in _SWITCHES:
        raise _AmbiguousError(
            f"'{text}' is true or false to some readers", f"write {_SWITCHES[text.lower()]}, or quotes"
        )
    for pattern, message, hint in _SURPRISES:
        if pattern.fullmatch(text):
            raise _AmbiguousError(f"'{text}' {message}", hint)
    return _number(text)


def dump(data: object) -> str:
    """YAML text that `load` reads back to equal data, in the order given; flat lists on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _number(text: str) -> object:
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 100 else text
    if not _FLOAT.fullmatch(text):
        return text
    if not math.isfinite(float(text)):
        raise _AmbiguousError(f"'{text}' is too large for a number", "write a smaller number")
    return float(text)


class _Reader:
    """Turns nodes into data, and collects places and flaws on the way."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.entries: dict[Path, Entry] = {}
        self.flaws: list[Flaw] = []

    def mark(self, place: yaml.Mark) -> Mark:
        return _mark(place, self.lines)

    def flaw(self, place: yaml.Mark, path: Path, message: str, hint: str) -> None:
        self.flaws.append(Flaw(self.mark(place), path, message, hint))

    def read(self, node: yaml.Node, path: Path) -> object:
        kind = {yaml.MappingNode: "map", yaml.SequenceNode: "seq", yaml.ScalarNode: "str"}[type(node)]
        if node.tag not in (f"tag:yaml.org,2002:{kind}", "!"):
            self.flaw(node.start_mark, path, f"the tag {node.tag} is not read here", "remove the tag")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self.read_list(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self.read_scalar(node, path)

    def read_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not key or key == "<<":
                self.flaw(key_node.start_mark, path, "this key is not a name", "write `name: value`")
            elif key in data:
                first = self.entries[(*path, key)].key.line
                message = f"the key '{key}' stands here twice (first in line {first})"
                self.flaw(key_node.start_mark, (*path, key), message, "keep one of the two")
            else:
                place = Entry(self.mark(key_node.start_mark), self.mark(value_node.start_mark))
                self.entries[(*path, key)] = place
                data[key] = self.read(value_node, (*path, key))
        return data

    def read_list(self, node: yaml.SequenceNode, path: Path) -> list[object]:
        for index, item in enumerate(node.value):
            self.entries[(*path, index)] = Entry(self.mark(item.start_mark), self.mark(item.start_mark))
        return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]

    def read_scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        if node.style is not None:
            return node.value
        try:
            return scalar(node.value)
        except _AmbiguousError as problem:
            place = self.entries[path].key if path in self.entries and not node.value else None
            mark = place or self.mark(node.start_mark)
            self.flaws.append(Flaw(mark, path, problem.message, problem.hint))
            return None


def _compose(text: str, lines: list[str]) -> yaml.Node:
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=_Composer) if node is not None]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, lines) from None
    except yaml.reader.ReaderError as error:
        raise StrictYamlError((_character_flaw(error, text),)) from None
    except RecursionError:
        raise StrictYamlError(
            (Flaw(Mark(1, 0, lines[0]), (), "is nested too deeply", "flatten it"),)
        ) from None
    if not nodes:
        raise StrictYamlError((Flaw(Mark(1, 0, lines[0]), (), "is empty", "write at least one value"),))
    if len(nodes) > 1:
        place = _mark(nodes[1].start_mark, lines)
        raise StrictYamlError((Flaw(place, (), "a second document begins here", "one file, one document"),))
    return nodes[0]


def _syntax_error(error: yaml.MarkedYAMLError, lines: list[str]) -> StrictYamlError:
    place = error.problem_mark or error.context_mark
    mark = _mark(place, lines) if place else Mark(1, 0, lines[0])
    problem = str(error.problem or error.context or error)
    if "anchor or alias" in problem:
        return StrictYamlError((Flaw(mark, (), problem, "write the value itself, or quote the text"),))
    for fragment, message, hint in _SYNTAX_HINTS:
        if fragment in problem:
            return StrictYamlError((Flaw(mark, (), f"not valid YAML: {message}", hint),))
    return StrictYamlError(
        (Flaw(mark, (), f"not valid YAML: {problem}", "quote text that has special characters"),)
    )


def _character_flaw(error: yaml.reader.ReaderError, text: str) -> Flaw:
    before = text[: error.position]
    line = before.count("\n") + 1
    mark = Mark(line, len(before.rpartition("\n")[2]), "")
    return Flaw(mark, (), f"the character #x{error.character:04x} is not allowed in YAML", "remove it")


def _mark(place: yaml.Mark, lines: list[str]) -> Mark:
    return Mark(place.line + 1, place.column, lines[place.line] if place.line < len(lines) else "")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `scalar` would not give back unchanged."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    try:
        is_plain = scalar(text) == text
    except ValueError:
        is_plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else "'")


def _represent_list(dumper: _Dumper, items: list[object] | tuple[object, ...]) -> yaml.Node:
    is_flat = not any(isinstance(item, dict | list | tuple) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_flat)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
