"""Trees in NPZ and MAT files: one array per leaf, its path joined by `__`, lists counted from 0."""

import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from optim.files.source import SEPARATOR, FileError, FindingError, nearest

_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read(path: pathlib.Path, name: str) -> dict[str, Any]:
    """The tree of an NPZ or MAT file; `name` is what errors call it.

    Raises:
        FileError: the file is damaged, of another format, or holds what is no array.
    """
    return unflatten(read_flat(path, name), name)


def read_flat(path: pathlib.Path, name: str) -> dict[str, Any]:
    """Every array of an NPZ or MAT file by its own name; of an NPY file, by the name `array`."""
    if path.suffix.lower() == ".mat":
        return _read_mat(path, name)
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"array": _leaf(content, name, "array")}
        with content:
            return {key: _leaf(_member(content, name, key), name, key) for key in content.files}
    except FileError:
        raise
    except _UNREADABLE as error:
        raise FileError(
            f"{name}: cannot be read as {path.suffix[1:].upper()}: {error}\n    {_AGAIN}"
        ) from None


_AGAIN = "it may be damaged or of another format: write it again"


def pick(arrays: Mapping[str, Any], wanted: object, path: tuple[str | int, ...]) -> Any:
    """The array of that name; without a name the only one there is."""
    if wanted is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if not isinstance(wanted, str) or wanted not in arrays:
        message = "the file holds several arrays" if wanted is None else f"no array is called {wanted!r}"
        hint = nearest(str(wanted or ""), arrays, "write name: and one of")
        raise FindingError((*path, "file" if wanted is None else "name"), message, hint)
    return arrays[wanted]


def write_npz(stream: BinaryIO, tree: Mapping[str, Any]) -> None:
    """Write the tree as NPZ."""
    np.savez(stream, **dict(_flat(tree, ())))


def write_mat(stream: BinaryIO, tree: Mapping[str, Any]) -> None:
    """Write the tree as MAT (version 5), vectors as rows."""
    from scipy import io

    io.savemat(stream, dict(_flat(tree, ())), oned_as="row")


def unflatten(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The tree whose leaves have these joined names."""
    tree: dict[str, Any] = {}
    for joined, value in arrays.items():
        *parents, last = joined.split(SEPARATOR)
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise _clash(name, joined)
        if last in node:
            raise _clash(name, joined)
        node[last] = value
    return {key: _listed(value, name, key) for key, value in tree.items()}


def _clash(name: str, joined: str) -> FileError:
    return FileError(f"{name}: {joined} and a part of it are both arrays\n    keep one of the two")


def _listed(node: Any, name: str, path: str) -> Any:
    """Mappings from 0, 1, ... become lists."""
    if not isinstance(node, dict):
        return node
    if not all(key.isdigit() for key in node):
        return {key: _listed(value, name, f"{path}{SEPARATOR}{key}") for key, value in node.items()}
    for index in range(len(node)):
        if str(index) not in node:
            raise FileError(f"{name}: {path}{SEPARATOR}{index} is missing\n    lists are counted from 0")
    return [_listed(node[str(i)], name, f"{path}{SEPARATOR}{i}") for i in range(len(node))]


def _flat(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list) and node and all(isinstance(item, str) for item in node):
        node = np.array(node)
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, (*path, key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _flat(value, (*path, str(index)))
    elif node is not None:
        yield SEPARATOR.join(path), node


def _member(content: Any, name: str, key: str) -> Any:
    try:
        return content[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise _objects(name, key) from None


def _objects(name: str, key: str) -> FileError:
    return FileError(
        f"{name}: {key}: holds Python objects, which are not read since they can run code\n"
        "    store plain arrays of numbers; a list of arrays is one array each, named "
        f"{key}{SEPARATOR}0, {key}{SEPARATOR}1, ..."
    )


def _leaf(value: Any, name: str, key: str) -> Any:
    """An array of numbers, a text, or a list of these."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    array = np.asarray(value)
    if array.dtype.kind in "biufc":
        return array
    if array.dtype.kind == "U":
        texts = [str(text).strip() for text in array.ravel()]
        return texts if array.size != 1 else texts[0]
    if array.dtype.hasobject or array.dtype.names:
        raise _objects(name, key)
    raise FileError(f"{name}: {key}: holds {array.dtype}, not numbers\n    store plain arrays of numbers")


def _read_mat(path: pathlib.Path, name: str) -> dict[str, Any]:
    from scipy import io

    try:
        with path.open("rb") as stream:
            start = stream.read(1024)
        if start.startswith(b"MATLAB 7.3") or _HDF5 in start:
            raise FileError(
                f"{name}: is a MAT file of version 7.3 (HDF5), which is not read\n"
                "    save it with the option '-v7', or as NPZ"
            )
        content = io.loadmat(path)
    except FileError:
        raise
    except (*_UNREADABLE, io.matlab.MatReadError) as error:
        raise FileError(f"{name}: cannot be read as MAT: {error}\n    {_AGAIN}") from None
    names = [key for key in content if not key.startswith("__")]
    return {key: _cell(content[key], name, key) for key in names}


def _cell(value: Any, name: str, key: str) -> Any:
    """Cell arrays become lists; a struct has to be taken apart by its owner."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        raise FileError(f"{name}: {key}: is a struct\n    save its fields as variables of their own")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_leaf(item, name, key) for item in value.ravel()]
    return _leaf(value, name, key)
