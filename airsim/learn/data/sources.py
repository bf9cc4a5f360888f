"""Labelled images, as their publishers give them."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from airsim.errors import DataError
from airsim.learn.data.idx import parse_idx

MNIST_HOME = "https://ossci-datasets.s3.amazonaws.com/mnist/"


@dataclass(frozen=True)
class MnistFile:
    """One of the four files, with the MD5 of its content and of the published compressed file."""

    name: str
    content_md5: str
    archive_md5: str


MNIST_FILES = (
    MnistFile(
        "train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"
    ),
    MnistFile(
        "train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"
    ),
    MnistFile(
        "t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"
    ),
    MnistFile(
        "t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"
    ),
)


class ImageFormat(NamedTuple):
    """What a model needs to know of a data set before it is read."""

    num_features: int
    num_classes: int


FORMATS = {"digits": ImageFormat(64, 10), "mnist": ImageFormat(784, 10)}


@dataclass(frozen=True)
class ImageSource:
    """Square images with values in [0, 1] and their classes; no test pair where all come in one pool."""

    name: str
    images: Float32[np.ndarray, "M H H"]
    labels: Int64[np.ndarray, "M"]
    test_images: Float32[np.ndarray, "T H H"] | None
    test_labels: Int64[np.ndarray, "T"] | None
    num_classes: int
    checksum: str


def load_digits() -> ImageSource:
    """The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries; no download."""
    from sklearn.datasets import load_digits as load_bundled_digits

    bundled = load_bundled_digits()
    pixels, labels = bundled.images.astype(np.uint8), bundled.target.astype(np.uint8)
    checksum = _sha256(pixels.tobytes(), labels.tobytes())
    return ImageSource("digits", (pixels / np.float32(16)), labels.astype(np.int64), None, None, 10, checksum)


def load_mnist(data_dir: Path | None) -> ImageSource:
    """MNIST from ``data_dir/mnist``, compressed or plain; without a folder, downloaded once into a cache.

    Raises:
        DataError: a file is missing, or its content is not the published one.
    """
    contents = [_read_mnist_file(file, data_dir) for file in MNIST_FILES]
    arrays = [parse_idx(content, file.name) for file, content in zip(MNIST_FILES, contents, strict=True)]
    images, test_images = (pixels / np.float32(255) for pixels in (arrays[0], arrays[2]))
    labels, test_labels = (classes.astype(np.int64) for classes in (arrays[1], arrays[3]))
    return ImageSource("mnist", images, labels, test_images, test_labels, 10, _sha256(*contents))


def _read_mnist_file(file: MnistFile, data_dir: Path | None) -> bytes:
    path = _download(file) if data_dir is None else _find(file, data_dir / "mnist")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.content_md5:
        raise DataError(
            f"{path}: MD5 of the content is {found} instead of {file.content_md5}; fetch it again"
        )
    return content


def _find(file: MnistFile, folder: Path) -> Path:
    for path in (folder / f"{file.name}.gz", folder / file.name):
        if path.exists():
            return path
    raise DataError(
        f"{folder}: holds neither {file.name}.gz nor {file.name}; put the four MNIST files there, "
        "or leave AIRSIM_DATA_DIR unset to download them"
    )


def _download(file: MnistFile) -> Path:
    import pooch

    url = f"{MNIST_HOME}{file.name}.gz"
    try:
        folder = pooch.os_cache("airsim") / "mnist"
        return Path(
            pooch.retrieve(url, known_hash=f"md5:{file.archive_md5}", fname=f"{file.name}.gz", path=folder)
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{url}: cannot be downloaded ({error}); "
            f"set AIRSIM_DATA_DIR to a folder that has mnist/{file.name}.gz"
        ) from error


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
