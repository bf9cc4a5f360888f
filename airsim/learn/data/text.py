"""Labelled texts, as their publishers give them."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from airsim.errors import DataError

# What data sets call the two columns; the first that a file has is taken.
TEXT_COLUMNS = ("sentence", "text")
LABEL_COLUMNS = ("label", "labels", "coarse_label")


@dataclass(frozen=True)
class TextSplit:
    """Texts with their classes."""

    texts: tuple[str, ...]
    labels: Int64[np.ndarray, "M"]


@dataclass(frozen=True)
class TextSource:
    """One task: texts for training and for testing, with classes from 0."""

    name: str
    train: TextSplit
    test: TextSplit
    num_classes: int
    checksum: str


def load_text(name: str, folder: Path | None) -> TextSource:
    """A task from ``folder/text``: files ``NAME.train.tsv`` and ``NAME.test.tsv``, or a data set's folder.

    A data set is laid out as on the Hugging Face Hub: a file per split whose name begins with ``train`` and
    ``test`` (or ``validation`` where there is no test), in the folder NAME or its ``data``, as ``.tsv``,
    ``.csv`` or ``.jsonl``, each also with ``.gz``. Parquet files and folders of `save_to_disk` are read by
    the library ``datasets`` where it is installed, and so is a name that no file has.

    Raises:
        DataError: nothing of that name, a damaged file, or labels that are not whole numbers from 0.
    """
    home = Path() if folder is None else folder / "text"
    splits = {split: _find(home, f"{name}.{split}") for split in ("train", "test")}
    if all(splits.values()):
        return _source(name, *(_read(path) for path in splits.values() if path))
    if any(splits.values()):
        raise DataError(f"{home}: holds only one of {name}.train.tsv and {name}.test.tsv; add the other")
    place = home / name
    if place.is_dir() and (found := _split_files(place)):
        return _source(name, *(_read(path) for path in found))
    return _source(name, *_from_library(name, place))


def _find(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for suffix in _READERS for suffix in (suffix, f"{suffix}.gz"))
    return next((path for path in paths if path.is_file()), None)


def _split_files(place: Path) -> tuple[Path, Path] | None:
    """The files of the training and the test split of a data set's folder."""
    files = sorted(path for path in (*place.iterdir(), *place.glob("data/*")) if _suffix(path) in _READERS)
    train, test, validation = (
        [path for path in files if path.name.startswith(split)] for split in ("train", "test", "validation")
    )
    held_out = test or validation
    if len(train) > 1 or len(held_out) > 1:
        raise DataError(
            f"{place}: {len(train)} train and {len(held_out)} test files; join the parts of a split"
        )
    return (train[0], held_out[0]) if train and held_out else None


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _READERS[_suffix(path)](content.decode())
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error


def _read_tsv(text: str) -> list[Mapping[str, Any]]:
    """Lines of cells between tabs, with a header; quotation marks are text."""
    lines = text.removesuffix("\n").split("\n")
    header = lines[0].split("\t")
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} cells, the header {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _read_csv(text: str) -> list[Mapping[str, Any]]:
    return list(csv.DictReader(io.StringIO(text)))


def _read_json_lines(text: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


_READERS: dict[str, Callable[[str], list[Mapping[str, Any]]]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
}


def _from_library(name: str, place: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """Splits read by the library ``datasets``: from a folder that it wrote, of Parquet files, or the Hub."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"no text named {name!r} in {place.parent} (neither {name}.train.tsv nor a folder {name} "
            "with train and test files); put it there, or pip install datasets for other kinds and the Hub"
        ) from error
    try:
        if (place / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(place))
        else:
            splits = datasets.load_dataset(str(place) if place.is_dir() else name)
        return list(splits["train"]), list(splits["test" if "test" in splits else "validation"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"data set {name!r} cannot be loaded ({error}); give a folder in {place.parent}"
        ) from error


def _source(name: str, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> TextSource:
    splits = [_split(f"{name}: {split}", rows) for split, rows in (("train", train), ("test", test))]
    digest = hashlib.sha256()
    for split in splits:
        digest.update("\n".join(split.texts).encode())
        digest.update(split.labels.tobytes())
    num_classes = 1 + int(splits[0].labels.max())
    if splits[1].labels.max() >= num_classes:
        raise DataError(
            f"{name}: test has label {splits[1].labels.max()}, training none above {num_classes - 1}"
        )
    return TextSource(name, splits[0], splits[1], num_classes, digest.hexdigest())


def _split(what: str, rows: Sequence[Mapping[str, Any]]) -> TextSplit:
    if not rows:
        raise DataError(f"{what}: has no texts; fetch the file again")
    text, label = (_column(what, rows[0], names) for names in (TEXT_COLUMNS, LABEL_COLUMNS))
    try:
        labels = np.array([int(row[label]) for row in rows], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: a label is no whole number ({error}); number the classes from 0") from error
    if labels.min() < 0:
        raise DataError(
            f"{what}: label {labels.min()}; number the classes from 0, and leave out unlabelled texts"
        )
    return TextSplit(tuple(str(row[text]) for row in rows), labels)


def _column(what: str, row: Mapping[str, Any], names: Sequence[str]) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise DataError(f"{what}: has columns {', '.join(row)}; name one of them {' or '.join(names)}")
    return found
