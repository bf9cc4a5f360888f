import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from airsim.errors import DataError
from airsim.learn.data.text import load_text

ROWS = [("a 'fine' day", 1), ('he said "no"', 0), ("tea", 1)]
TASKS = {"sst2": (7792, 2), "trec": (5452, 6), "subj": (9000, 2), "mr": (9595, 2), "agnews": (6650, 4)}


def write(path, rows=ROWS, header=("sentence", "label")):
    """A file in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind == ".tsv":
        text = "".join(f"{a}\t{b}\n" for a, b in (header, *rows))
    elif kind == ".csv":
        quoted = [(f'"{text}"'.replace('"no"', '""no""'), label) for text, label in rows]
        text = "".join(f"{a},{b}\n" for a, b in (header, *quoted))
    else:
        text = "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "csv", "jsonl", "jsonl.gz"])
@pytest.mark.parametrize("layout", ["text/mine.{}.{}", "text/mine/{}.{}", "text/mine/data/{}-00000.{}"])
def test_files_of_every_kind_and_place_give_the_same_source(tmp_path, suffix, layout):
    for split in ("train", "test"):
        write(tmp_path / layout.format(split, suffix), header=("text", "label"))
    source = load_text("mine", tmp_path)
    assert source.train.texts == tuple(text for text, _ in ROWS)
    assert source.test.labels.tolist() == [1, 0, 1]
    assert source.num_classes == 2
    write(tmp_path / "other" / "text" / "mine.train.tsv")
    write(tmp_path / "other" / "text" / "mine.test.tsv")
    assert source.checksum == load_text("mine", tmp_path / "other").checksum


def test_a_data_set_without_test_split_is_tested_on_its_validation_split(tmp_path):
    write(tmp_path / "text" / "mine" / "train.csv")
    write(tmp_path / "text" / "mine" / "validation.csv", [("only this", 0)])
    assert load_text("mine", tmp_path).test.texts == ("only this",)


def test_another_label_gives_another_checksum(tmp_path):
    for name, last in (("one", 1), ("other", 0)):
        write(tmp_path / "text" / f"{name}.train.tsv", [*ROWS[:2], ("tea", last)])
        write(tmp_path / "text" / f"{name}.test.tsv")
    assert load_text("one", tmp_path).checksum != load_text("other", tmp_path).checksum


BROKEN = {
    "a cell too many": (b"sentence\tlabel\na\tb\t1\n", "line 2 has 3 cells, the header 2"),
    "another column": (
        b"phrase\tlabel\na\t1\n",
        "has columns phrase, label; name one of them sentence or text",
    ),
    "a label in words": (b"sentence\tlabel\na\tgood\n", "a label is no whole number"),
    "a missing label": (b"sentence\tlabel\na\t-1\n", "label -1; number the classes from 0"),
    "no text": (b"sentence\tlabel\n", "has no texts"),
    "other bytes": (b"sentence\tlabel\n\xff\t1\n", "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN, ids=lambda name: name.replace(" ", "-"))
def test_a_damaged_file_is_refused_by_name(tmp_path, case):
    content, words = BROKEN[case]
    write(tmp_path / "text" / "mine.test.tsv")
    (tmp_path / "text" / "mine.train.tsv").write_bytes(content)
    with pytest.raises(DataError, match=f"mine.*train.*{words}"):
        load_text("mine", tmp_path)


def test_what_is_missing_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"no text named 'mine'.*pip install datasets"):
        load_text("mine", tmp_path)
    write(tmp_path / "text" / "mine.train.tsv")
    with pytest.raises(DataError, match=r"only one of mine\.train\.tsv and mine\.test\.tsv"):
        load_text("mine", tmp_path)
    write(tmp_path / "text" / "mine.test.tsv", [("a", 4)])
    with pytest.raises(DataError, match="test has label 4, training none above 1"):
        load_text("mine", tmp_path)


def test_a_folder_written_by_datasets_is_read(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    split = datasets.Dataset.from_dict(columns)
    datasets.DatasetDict(train=split, test=split).save_to_disk(str(tmp_path / "text" / "mine"))
    assert load_text("mine", tmp_path).train.texts == tuple(columns["text"])
    for part in ("train", "test"):
        split.to_parquet(str(tmp_path / "text" / "flat" / f"{part}.parquet"))
    assert load_text("flat", tmp_path).train.labels.tolist() == columns["label"]


@pytest.mark.skipif("AIRSIM_DATA_DIR" not in os.environ, reason="AIRSIM_DATA_DIR is not set")
@pytest.mark.parametrize("task", TASKS)
def test_the_five_tasks_are_read_from_the_data_folder(task):
    source = load_text(task, Path(os.environ["AIRSIM_DATA_DIR"]))
    assert (len(source.train.texts), source.num_classes) == TASKS[task]
    assert np.bincount(source.test.labels).min() > 0
