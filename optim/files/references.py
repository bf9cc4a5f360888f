"""Arrays that a problem file names instead of holding: another file's, or a random draw for a try."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Complex

from optim import quantity
from optim.files import arrays
from optim.files.source import FindingError, kind_of, nearest
from optim.places import Path

SUFFIXES = (".npz", ".npy", ".mat")
_COUNTS = {"devices": None, "antennas": None, "blocks": 1, "device_antennas": 1}


def from_file(raw: dict[str, Any], path: Path, folder: pathlib.Path) -> Any:
    """The array of `{file: channel.npz, name: H}`; the file lies relative to the one that names it."""
    file = raw["file"]
    if not isinstance(file, str) or pathlib.Path(file).suffix.lower() not in SUFFIXES:
        message = f"{kind_of(file)} is no array file"
        raise FindingError((*path, "file"), message, f"name one that ends in {', '.join(SUFFIXES)}")
    where = folder / file
    if not where.is_file():
        others = [other.name for other in where.parent.glob("*") if other.suffix.lower() in SUFFIXES]
        hint = nearest(where.name, sorted(others), "array files there:")
        raise FindingError((*path, "file"), f"no such file {where}", hint)
    value = arrays.pick(arrays.read_flat(where, str(where)), raw.get("name"), path)
    if not isinstance(value, np.ndarray):
        raise FindingError(
            (*path, "file"), f"what {where} holds there is no array of numbers", "name another"
        )
    return value


def rayleigh(raw: Any, path: Path) -> Complex[np.ndarray, "..."]:
    """Independent complex Gaussian entries of power `gain`, the same for the same `seed`."""
    names = (*_COUNTS, "gain", "seed")
    if not isinstance(raw, dict):
        raise FindingError(path, f"{kind_of(raw)} is no model", "write {devices: 10, antennas: 4, seed: 0}")
    for name in raw:
        if name not in names:
            raise FindingError((*path, name), "unknown field", nearest(name, names), at_key=True)
    counts = {name: _whole(raw, name, default, path) for name, default in _COUNTS.items()}
    rng = np.random.default_rng(_whole(raw, "seed", 0, path, least=0))
    shape = [counts["devices"], counts["antennas"]]
    shape = [counts["blocks"], *shape] if "blocks" in raw else shape
    shape = [*shape, counts["device_antennas"]] if counts["device_antennas"] > 1 else shape
    draw = rng.standard_normal((*shape, 2)) @ np.array([1, 1j])
    return draw * np.sqrt(_gain(raw, path) / 2)


def _whole(raw: dict[str, Any], name: str, default: int | None, path: Path, least: int = 1) -> int:
    value = raw.get(name, default)
    if value is None:
        raise FindingError(path, f"{name} is missing", f"add {name}: 4")
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        hint = f"write a whole number of at least {least}"
        raise FindingError((*path, name), f"{kind_of(value)} is not allowed", hint)
    return value


def _gain(raw: dict[str, Any], path: Path) -> float:
    try:
        return quantity.parse(raw.get("gain", "0 dB"), quantity.RATIO)
    except quantity.QuantityError as error:
        raise FindingError((*path, "gain"), error.message, error.hint) from None
