import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pooch
import pytest
from test_idx import to_idx

from airsim.errors import DataError
from airsim.learn.data.sources import MnistFile, load_digits, load_mnist


def small_mnist(folder, monkeypatch, compressed=True):
    """Four tiny files in the place and with the checksums of the real ones."""
    folder.mkdir(parents=True)
    rng, files = np.random.default_rng(0), []
    for name, shape in (("tr-i", (6, 4, 4)), ("tr-l", (6,)), ("te-i", (3, 4, 4)), ("te-l", (3,))):
        content = to_idx(rng.integers(0, 10, shape, dtype=np.uint8))
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
        files.append(MnistFile(name, hashlib.md5(content).hexdigest(), "archive"))
    monkeypatch.setattr("airsim.learn.data.sources.MNIST_FILES", tuple(files))


def test_the_bundled_digits_are_whole_and_in_range():
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8)
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    assert np.bincount(digits.labels).min() == 174
    assert digits.checksum == load_digits().checksum


@pytest.mark.parametrize("compressed", [True, False])
def test_compressed_and_plain_files_give_the_same_source(tmp_path, monkeypatch, compressed):
    small_mnist(tmp_path / "mnist", monkeypatch, compressed)
    source = load_mnist(tmp_path)
    assert source.images.shape == (6, 4, 4)
    assert source.test_labels.shape == (3,)
    assert source.images.max() <= 10 / 255


def test_a_file_with_other_content_is_refused(tmp_path, monkeypatch):
    small_mnist(tmp_path / "mnist", monkeypatch)
    (tmp_path / "mnist" / "te-l.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=r"te-l\.gz: MD5 of the content is"):
        load_mnist(tmp_path)
    (tmp_path / "mnist" / "te-l.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"te-l\.gz: cannot be read"):
        load_mnist(tmp_path)


def test_a_missing_file_is_named_with_the_folder_it_should_be_in(tmp_path, monkeypatch):
    small_mnist(tmp_path / "mnist", monkeypatch)
    (tmp_path / "mnist" / "tr-l.gz").unlink()
    with pytest.raises(DataError, match=r"holds neither tr-l\.gz nor tr-l"):
        load_mnist(tmp_path)


def test_without_a_folder_every_file_is_downloaded_with_its_checksum(tmp_path, monkeypatch):
    small_mnist(tmp_path / "mnist", monkeypatch)
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url.rsplit("/", 1)[1], known_hash, fname))
        return str(tmp_path / "mnist" / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load_mnist(None).images.shape == (6, 4, 4)
    assert asked[0] == ("tr-i.gz", "md5:archive", "tr-i.gz")
    assert len(asked) == 4


def test_a_failed_download_says_what_to_set_instead(monkeypatch):
    def retrieve(url, known_hash, fname, path):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"no route to host\); set AIRSIM_DATA_DIR"):
        load_mnist(None)


@pytest.mark.skipif("AIRSIM_DATA_DIR" not in os.environ, reason="AIRSIM_DATA_DIR is not set")
def test_mnist_is_read_from_the_data_folder():
    mnist = load_mnist(Path(os.environ["AIRSIM_DATA_DIR"]))
    assert mnist.images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    assert mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert (mnist.images.min(), mnist.images.max()) == (0, 1)
