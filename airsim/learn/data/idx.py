"""The IDX format of the MNIST files."""

import math

import numpy as np
from jaxtyping import UInt8

from airsim.errors import DataError

UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, name: str) -> UInt8[np.ndarray, "..."]:
    """The array of unsigned bytes in an IDX file: a header with the sizes, then the entries.

    The header is ``00 00 08 rank`` and one big-endian word per axis. `name` is what errors call the file.

    Raises:
        DataError: the header is not that of unsigned bytes, or the length is not what the header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{name}: starts with {content[:4].hex() or 'nothing'}, so it is not an IDX file")
    if content[2] != UNSIGNED_BYTE:
        raise DataError(f"{name}: entries of type 0x{content[2]:02x}; only unsigned bytes (0x08) can be read")
    header_size = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:header_size], dtype=">u4"))
    expected = header_size + math.prod(shape)
    if len(shape) != content[3] or len(content) != expected:
        raise DataError(f"{name}: {len(content)} bytes where the header asks for {expected}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape)
