"""Results on disk: written beside, then renamed, so that a killed process leaves no half result."""

import glob
import json
import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from airsim.errors import ResultsError

# Raised whenever the same scenario gives other numbers than before; part of every fingerprint.
RESULTS_VERSION = 4

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
SCENARIO = "scenario.lock.yaml"
ADAPTERS = "adapters.safetensors"
TIMELINE = "timeline.jsonl"


@dataclass(frozen=True)
class StoredRun:
    """A finished run, read back: its manifest, and one mapping per round."""

    folder: Path
    manifest: Mapping[str, Any]
    rounds: tuple[Mapping[str, Any], ...]


def write_atomically(path: Path, text: str) -> None:
    """Write beside, flush to disk, then rename: a killed process leaves the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def finished_run(folder: Path, fingerprint: str) -> StoredRun | None:
    """The run in this folder if it is the one asked for, None if the folder is free.

    Raises:
        ResultsError: the folder holds something else, which must not be overwritten.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / MANIFEST).is_file():
        raise ResultsError(f"{folder} exists and is not a run folder: choose another --out")
    stored = read_run(folder)
    if stored.manifest.get("fingerprint") != fingerprint:
        raise ResultsError(
            f"{folder} holds another run (fingerprint {stored.manifest.get('fingerprint')}, not "
            f"{fingerprint}): choose another --out, or delete that folder"
        )
    return stored


def read_run(folder: Path) -> StoredRun:
    """Read a finished run.

    Raises:
        ResultsError: the folder is no run folder, or one of its files is damaged.
    """
    manifest_path, metrics_path = folder / MANIFEST, folder / METRICS
    for path in (manifest_path, metrics_path):
        if not path.is_file():
            raise ResultsError(f"{folder} is not a finished run: {path.name} is missing")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        lines = metrics_path.read_text(encoding="utf-8").splitlines()
        rounds = tuple(json.loads(line) for line in lines)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"{folder} is damaged ({error}): delete it and run again") from error
    if not rounds:
        raise ResultsError(f"{folder} is damaged ({METRICS} is empty): delete it and run again")
    return StoredRun(folder, manifest, rounds)


@contextmanager
def run_draft(folder: Path) -> Iterator[Path]:
    """A draft folder beside `folder`, renamed to it when the block ends well and removed when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    draft = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}.partial")
    draft.mkdir()
    try:
        yield draft
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if not (folder / MANIFEST).is_file():  # else another process was faster, and its run stays
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def append_line(stream: Any, record: Mapping[str, Any]) -> None:
    """One JSON object on one line; a number that is not finite is an error, not a token of its own."""
    stream.write(json.dumps(record, allow_nan=False) + "\n")


def environment() -> dict[str, Any]:
    """Versions and hardware for a manifest; nothing of it enters a fingerprint."""
    packages = ("airsim-fl", "numpy", "scipy", "cvxpy", "simpy", "torch", "scikit-learn")
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def remove_abandoned(folder: Path) -> None:
    """Delete drafts of this run whose process, on this machine, is gone."""
    prefix = f".{folder.name}.{socket.gethostname()}."
    for draft in folder.parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = draft.name.removeprefix(prefix).removesuffix(".partial")
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(draft, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
