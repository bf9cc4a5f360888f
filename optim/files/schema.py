"""The fields of a problem file: which argument of which problem each one gives, and how it is read."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from optim.csi import ErrorCovariance
from optim.files import numbers
from optim.files.references import from_file
from optim.files.source import FindingError, kind_of, nearest
from optim.places import Path

Read = Callable[[Any, Path, pathlib.Path], Any]


@dataclass(frozen=True)
class Field:
    """One name in a file. `axes` counts the argument's axes beyond the batch; None leaves them alone."""

    argument: str
    read: Read
    axes: int | None = None


def power(name: str, axes: int) -> dict[str, Field]:
    """A power's three spellings: with its unit in the value, or in the name."""
    readers = {"": numbers.powers_w, "_w": numbers.watts, "_dbm": numbers.watts_of_dbm}
    return {name + unit: Field(f"{name}_w", read, axes) for unit, read in readers.items()}


def sequence(read: Read, axes: int) -> Read:
    """A reader of several arrays, one list item or file entry each."""

    def read_all(raw: Any, path: Path, folder: pathlib.Path) -> list[Any]:
        if isinstance(raw, dict) and "file" in raw:
            raw = from_file(raw, path, folder)
        if not isinstance(raw, list) and not (isinstance(raw, np.ndarray) and raw.ndim):
            raise FindingError(path, f"{kind_of(raw)} is no list", "write [..., ...], one entry each")
        items = (read(item, (*path, index), folder) for index, item in enumerate(raw))
        return [numbers.fitted(item, axes) for item in items]

    return read_all


def data_shares(raw: Any, path: Path, folder: pathlib.Path) -> Float[np.ndarray, "*batch K"]:
    """Target gains in proportion to the devices' data: ``D_k / D``."""
    sizes = numbers.reals(raw, path, folder)
    total = sizes.sum(axis=-1, keepdims=True) if sizes.ndim else sizes
    if (sizes < 0).any() or not (total > 0).all():
        raise FindingError(
            path, "are not all 0 or more, with one above", "write how much data each device has"
        )
    return sizes / total


def covariance(raw: Any, path: Path, folder: pathlib.Path) -> ErrorCovariance:
    """`{scale: 0.01, shape: ...}`; the shape may be left out."""
    names = ("scale", "shape")
    if not isinstance(raw, dict):
        raise FindingError(path, f"{kind_of(raw)} is no covariance", "write {scale: 0.01}")
    for name in raw:
        if name not in names:
            raise FindingError((*path, name), "unknown field", nearest(name, names), at_key=True)
    if "scale" not in raw:
        raise FindingError(path, "scale is missing", "add scale: 1")
    shape = raw.get("shape")
    matrix = None if shape is None else numbers.complexes(shape, (*path, "shape"), folder)
    return ErrorCovariance(numbers.reals(raw["scale"], (*path, "scale"), folder), matrix)


RECEIVER = {
    "channel": Field("channel", numbers.complexes),
    "target_gains": Field("target_gains", numbers.reals, 1),
    "data_sizes": Field("target_gains", data_shares, 1),
    **power("power_budget", 1),
    **power("noise_power", 0),
    "misalignment_weight": Field("misalignment_weight", numbers.reals, 0),
    "error_covariance": Field("error_covariance", covariance),
    "device_antennas": Field("device_antennas", numbers.one_whole),
}
COMBINED = {
    "base_station_channel": Field("base_station_channel", numbers.complexes),
    "edge_channels": Field("edge_channels", sequence(numbers.complexes, 2)),
    "members": Field("members", sequence(numbers.wholes, 1)),
    "data_sizes": Field("data_sizes", numbers.reals, 1),
    "rank_shared": Field("rank_shared", numbers.one_whole),
    "rank_personal": Field("rank_personal", numbers.one_whole),
    "shares": Field("shares", numbers.reals, 1),
    **power("average_power", 1),
    **power("peak_power", 1),
    **power("noise_power", 1),
    "payload_std": Field("payload_std", sequence(numbers.reals, 1)),
    "misalignment_weight": Field("misalignment_weight", numbers.reals, 0),
    "task_access": Field("task_access", numbers.text),
}

# What to add where an argument is missing.
EXAMPLES = {
    "channel": "channel: {file: channel.npz, name: H}, or {re: [[...]], im: [[...]]}",
    "target_gains": "target_gains: 0.1, or data_sizes: [...]",
    "power_budget_w": "power_budget: 23 dBm",
    "noise_power_w": "noise_power: -100 dBm",
    "base_station_channel": "base_station_channel: {file: channel.npz, name: H0}",
    "edge_channels": "edge_channels: [{file: channel.npz, name: H1}, ...]",
    "members": "members: [[0, 1, 2], [3, 4]], the devices of each edge server counted from 0",
    "data_sizes": "data_sizes: [...], or 1 for equal ones",
    "rank_shared": "rank_shared: 6",
    "rank_personal": "rank_personal: 2",
    "average_power_w": "average_power: 20 dBm",
    "peak_power_w": "peak_power: 26 dBm",
}
