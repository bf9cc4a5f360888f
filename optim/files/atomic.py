"""Files that are there in full or not at all."""

import os
import pathlib
from collections.abc import Callable
from typing import BinaryIO


def write_atomically(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Write beside, flush to disk, then rename: whatever happens leaves the old file or the new one.

    A draft that failed or was interrupted is removed. Only a process killed outright can leave one, under a
    hidden name that ends in `.tmp`.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
