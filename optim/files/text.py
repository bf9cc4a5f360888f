"""Trees in YAML and JSON files: complex numbers are pairs of `re` and `im`, floats keep every bit."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from optim.files.source import FileError, Source, error_of_flaws, kind_of
from optim.places import Entry, Path, StrictTextError


def read(path: pathlib.Path, name: str) -> Source:
    """The tree of a YAML or JSON file and, for errors, its places.

    Raises:
        FileError: the text is not what it should be, or ambiguous.
    """
    text = _decoded(path, name)
    is_json = path.suffix.lower() == ".json"
    try:
        data, places = _load_json(text) if is_json else _load_yaml(text)
    except StrictTextError as error:
        raise error_of_flaws(name, error.flaws) from None
    if not isinstance(data, dict):
        raise FileError(f"{name}: is {kind_of(data)}, not a mapping\n    write `field: value` lines")
    return Source(name, path.parent, data, places)


def dump_json(tree: Mapping[str, Any]) -> str:
    """The tree as strict JSON, one row of a matrix per line; a number that is not finite becomes null."""
    return _indented(plain(tree), "") + "\n"


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """The tree as strict YAML; a number that is not finite becomes null."""
    from optim import strict_yaml

    return strict_yaml.dump(plain(tree))


def plain(node: Any) -> Any:
    """Nested mappings, lists and numbers in place of arrays."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    if isinstance(node, np.ndarray | np.generic):
        return _plain_array(np.asarray(node))
    if isinstance(node, float) and not np.isfinite(node):
        return None
    return node


def _plain_array(array: Any) -> Any:
    # A list cannot say how many columns no rows have.
    shape = {"shape": list(array.shape)} if array.size == 0 and array.ndim > 1 else {}
    if np.iscomplexobj(array):
        return {"re": plain(array.real.tolist()), "im": plain(array.imag.tolist()), **shape}
    return {"re": [], **shape} if shape else plain(array.tolist())


def _indented(node: Any, margin: str) -> str:
    inner = margin + "  "
    if isinstance(node, dict) and node:
        lines = [f"{inner}{json.dumps(key)}: {_indented(value, inner)}" for key, value in node.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(node, list) and any(isinstance(item, list | dict) for item in node):
        return "[\n" + ",\n".join(inner + _indented(item, inner) for item in node) + f"\n{margin}]"
    return json.dumps(node, allow_nan=False, ensure_ascii=False)


def _decoded(path: pathlib.Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{name}: is not UTF-8 text (byte {error.start})\n    save it as UTF-8") from None
    except OSError as error:
        raise FileError(f"{name}: cannot be read: {error.strerror}\n    check its permissions") from None


def _load_json(text: str) -> tuple[object, Any]:
    from optim import strict_json

    def places() -> Mapping[Path, Entry]:
        return strict_json.locate(text).entries

    return strict_json.load(text), places


def _load_yaml(text: str) -> tuple[object, Any]:
    from optim import strict_yaml

    document = strict_yaml.load(text)
    return document.data, lambda: document.entries
