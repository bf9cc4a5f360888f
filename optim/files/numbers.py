"""Values of a problem file as arrays: nested lists, texts such as `1-2j` or `23 dBm`, references."""

import cmath
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Inexact, Int, Shaped

from optim import quantity
from optim.files.references import from_file, rayleigh
from optim.files.source import FindingError, kind_of, nearest
from optim.places import Path

Folder = pathlib.Path
Scalar = Callable[[Any, Path], Any]

_UNITLESS = "has no unit"


def complexes(raw: Any, path: Path, folder: Folder) -> Complex[np.ndarray, "..."]:
    """Complex numbers: `{re: ..., im: ...}`, lists, an array file, or `{rayleigh: ...}` for a try."""
    if isinstance(raw, dict) and "rayleigh" in raw:
        _only(raw, ("rayleigh",), path)
        return rayleigh(raw["rayleigh"], (*path, "rayleigh"))
    if isinstance(raw, dict) and "re" in raw:
        return _parts(raw, path, folder)
    return _array(raw, path, folder, _complex).astype(np.complex128)


def reals(raw: Any, path: Path, folder: Folder) -> Float[np.ndarray, "..."]:
    """Real numbers: lists, or an array file."""
    if isinstance(raw, dict) and "re" in raw:
        _only(raw, ("re", "shape"), path)
        return _shaped(reals(raw["re"], (*path, "re"), folder), raw, path)
    array = _array(raw, path, folder, _real)
    if np.iscomplexobj(array):
        raise FindingError(path, "holds complex numbers", "give real ones; a phase belongs into the channel")
    return array.astype(np.float64)


def wholes(raw: Any, path: Path, folder: Folder) -> Int[np.ndarray, "..."]:
    """Whole numbers; `6.0` is one."""
    array = reals(raw, path, folder)
    wrong = np.argwhere((array != np.floor(array)) | (np.abs(array) > 2**53))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        raise FindingError((*path, *index), f"{array[index]:g} is not a whole number", "write one such as 3")
    return array.astype(np.int64)


def powers_w(raw: Any, path: Path, folder: Folder) -> Float[np.ndarray, "..."]:
    """Watts of texts with a unit."""
    if isinstance(raw, np.ndarray | dict):
        name = path[0]
        raise FindingError(path, _UNITLESS, f"name it {name}_w for watts or {name}_dbm for dBm", at_key=True)
    return _array(raw, path, folder, _power_w).astype(np.float64)


def watts(raw: Any, path: Path, folder: Folder) -> Float[np.ndarray, "..."]:
    """Watts of plain numbers, where the name says the unit."""
    if isinstance(raw, str):
        name = str(path[0]).removesuffix("_w")
        raise FindingError(path, f"the text '{raw}' is no number", f"write {name}: {raw}, or plain watts")
    return reals(raw, path, folder)


def watts_of_dbm(raw: Any, path: Path, folder: Folder) -> Float[np.ndarray, "..."]:
    """Watts of plain levels in dBm; minus infinity is silence."""
    levels_dbm = reals(raw, path, folder)
    watts = [quantity.dbm(float(level)) for level in levels_dbm.ravel()]
    return np.array(watts, dtype=np.float64).reshape(levels_dbm.shape)


def one_whole(raw: Any, path: Path, folder: Folder) -> int:
    """One whole number."""
    array = wholes(raw, path, folder)
    if array.size != 1:
        raise FindingError(path, f"holds {array.size} numbers", "write one whole number")
    return int(array.item())


def text(raw: Any, path: Path, folder: Folder) -> str:
    """A word."""
    if not isinstance(raw, str):
        raise FindingError(path, f"{kind_of(raw)} is no word", "write one of the names it can have")
    return raw


def fitted(array: Shaped[np.ndarray, "..."], axes: int) -> Shaped[np.ndarray, "..."]:
    """Without the axes of length 1 that a row, a column or a scalar has in a MAT file."""
    while array.ndim > axes and (1 in (array.shape[0], array.shape[-1]) or array.shape[:2] == (0, 0)):
        drops_last = array.shape[0] != 1 and array.size > 0  # an empty row is 0 x 0 there
        array = array.reshape(array.shape[:-1] if drops_last else array.shape[1:])
    return array


def _array(raw: Any, path: Path, folder: Folder, scalar: Scalar) -> Shaped[np.ndarray, "..."]:
    if isinstance(raw, dict):
        if "file" not in raw:
            hint = "write a list, {file: ..., name: ...}, or for complex numbers {re: ..., im: ...}"
            raise FindingError(path, f"a mapping with {', '.join(raw) or 'nothing'} is no array", hint)
        _only(raw, ("file", "name"), path)
        raw = from_file(raw, path, folder)
    if isinstance(raw, np.ndarray):
        if raw.dtype.kind == "b":
            raise FindingError(path, "holds true and false", "give numbers")
        return raw
    values, shape = _nested(raw, path, scalar)
    return np.array(values).reshape(shape)


def _nested(raw: Any, path: Path, scalar: Scalar) -> tuple[Any, tuple[int, ...]]:
    """The numbers of nested lists, and the shape that all rows agree on."""
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "iufc":
        return raw.tolist(), raw.shape
    if not isinstance(raw, list):
        return scalar(raw, path), ()
    parts = [_nested(item, (*path, index), scalar) for index, item in enumerate(raw)]
    shapes = [shape for _, shape in parts]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            message = f"holds {_size(shape)}, but row 0 holds {_size(shapes[0])}"
            raise FindingError((*path, index), message, "make all rows of one length")
    return [values for values, _ in parts], (len(raw), *(shapes[0] if shapes else ()))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + " numbers" if shape else "one number"


def _real(raw: Any, path: Path) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        hint = "write it without quotes" if _is_number(raw) else "write a number"
        raise FindingError(path, f"{kind_of(raw)} is no number", hint)
    return float(raw)


def _complex(raw: Any, path: Path) -> complex:
    if not isinstance(raw, str):
        return complex(_real(raw, path))
    try:
        value = complex(raw.replace(" ", "").replace("i", "j"))
    except ValueError:
        value = complex("nan")
    if not cmath.isfinite(value):
        raise FindingError(path, f"the text '{raw}' is no complex number", "write it like 1-2j")
    return value


def _power_w(raw: Any, path: Path) -> float:
    try:
        return quantity.parse(raw, quantity.POWER)
    except quantity.QuantityError as error:
        raise FindingError(path, error.message, error.hint) from None


def _is_number(raw: Any) -> bool:
    try:
        return isinstance(raw, str) and math.isfinite(float(raw))
    except ValueError:
        return False


def _parts(raw: dict[str, Any], path: Path, folder: Folder) -> Complex[np.ndarray, "..."]:
    _only(raw, ("re", "im", "shape"), path)
    real = reals(raw["re"], (*path, "re"), folder)
    imaginary = reals(raw["im"], (*path, "im"), folder) if "im" in raw else np.zeros(real.shape)
    if real.shape != imaginary.shape:
        message = f"re holds {_size(real.shape)}, but im holds {_size(imaginary.shape)}"
        raise FindingError((*path, "im"), message, "give every number both parts")
    array = np.empty(real.shape, np.complex128)  # a sum would lose the sign of zeros
    array.real, array.imag = real, imaginary
    return _shaped(array, raw, path)


def _shaped(array: Inexact[np.ndarray, "..."], raw: dict[str, Any], path: Path) -> Inexact[np.ndarray, "..."]:
    if "shape" not in raw:
        return array
    shape = wholes(raw["shape"], (*path, "shape"), pathlib.Path())
    if shape.ndim != 1 or (shape < 0).any() or shape.prod() != array.size:
        raise FindingError((*path, "shape"), f"does not fit {array.size} numbers", "leave it out")
    return array.reshape(tuple(shape.tolist()))


def _only(raw: dict[str, Any], names: Sequence[str], path: Path) -> None:
    for name in raw:
        if name not in names:
            raise FindingError((*path, name), "unknown field", nearest(name, names), at_key=True)
