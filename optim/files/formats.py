"""Which reader and writer a file's suffix asks for."""

import pathlib
from collections.abc import Mapping
from typing import Any

from optim.files import arrays, text
from optim.files.atomic import write_atomically
from optim.files.source import FileError, Source, nearest

SUFFIXES = (".yaml", ".yml", ".json", ".npz", ".mat")


def read(path: pathlib.Path, name: str) -> Source:
    """The tree of a file; `name` is how the user called it.

    Raises:
        FileError: there is no such file, or it cannot be read.
    """
    suffix = known_suffix(path, name)
    if path.is_dir():
        raise FileError(f"{name}: is a folder\n    name a file in it")
    if not path.is_file():
        others = (other.name for other in path.parent.glob("*") if other.suffix.lower() in SUFFIXES)
        raise FileError(f"{name}: no such file\n    {nearest(path.name, sorted(others), 'files there:')}")
    if suffix in (".npz", ".mat"):
        return Source(name, path.parent, arrays.read(path, name))
    return text.read(path, name)


def write(path: pathlib.Path, tree: Mapping[str, Any]) -> None:
    """Write a tree, all of it or nothing."""
    suffix = known_suffix(path, str(path))
    if not path.parent.is_dir():
        raise FileError(
            f"{path}: there is no folder {path.parent}\n    make it first, or choose another place"
        )
    if suffix in (".npz", ".mat"):
        dump = arrays.write_npz if suffix == ".npz" else arrays.write_mat
        write_atomically(path, lambda stream: dump(stream, tree))
    else:
        content = text.dump_json(tree) if suffix == ".json" else text.dump_yaml(tree)
        write_atomically(path, lambda stream: stream.write(content.encode()))


def free(out: str, force: bool) -> pathlib.Path:
    """A path to write to; a `FileError` where that cannot be, or would overwrite without `force`."""
    path = pathlib.Path(out)
    known_suffix(path, out)
    if not path.parent.is_dir():
        raise FileError(
            f"{out}: there is no folder {path.parent}\n    make it first, or choose another --out"
        )
    if path.exists() and not (force and path.is_file()):
        raise FileError(f"{out}: exists already\n    choose another --out, or overwrite it with --force")
    return path


def known_suffix(path: pathlib.Path, name: str) -> str:
    """The suffix in lower case, or a `FileError` with those there are."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        said = f"the suffix '{path.suffix}' is unknown" if suffix else "has no suffix"
        raise FileError(f"{name}: {said}\n    name a file that ends in {', '.join(SUFFIXES)}")
    return suffix
