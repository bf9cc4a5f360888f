"""Refuse impossible numbers where they enter: field, index, value, way out."""

from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Inexact, Shaped


def real_array(field: str, values: Any) -> Float[np.ndarray, "..."]:
    """A finite float64 array of its own, or a `ValueError` that says where it is not."""
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex numbers; give real ones, a phase belongs into the channel")
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field} is no array of real numbers: {error}") from error
    refuse(field, array, ~np.isfinite(array), "give a finite number")
    return array


def complex_array(field: str, values: Any) -> Complex[np.ndarray, "..."]:
    """A finite complex128 array of its own, or a `ValueError` that says where it is not."""
    try:
        array = np.array(values, dtype=np.complex128)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field} is no array of complex numbers: {error}") from error
    refuse(field, array, ~np.isfinite(array), "give finite numbers; a lost link is a row of zeros")
    return array


def non_negative(field: str, array: Float[np.ndarray, "..."], way_out: str) -> None:
    """Raise `ValueError` at the first entry below zero."""
    refuse(field, array, array < 0, way_out)


def positive(field: str, array: Float[np.ndarray, "..."], way_out: str) -> None:
    """Raise `ValueError` at the first entry that is not above zero."""
    refuse(field, array, array <= 0, way_out)


def broadcast(
    field: str, array: Inexact[np.ndarray, "..."], shape: tuple[int, ...]
) -> Inexact[np.ndarray, "..."]:
    """The array repeated to `shape`, read-only, or a `ValueError` naming both shapes."""
    try:
        repeated = np.array(np.broadcast_to(array, shape))
    except ValueError as error:
        raise ValueError(f"{field} has shape {array.shape}, which does not fit {shape}: {error}") from error
    repeated.setflags(write=False)
    return repeated


def refuse(field: str, array: Shaped[np.ndarray, "..."], wrong: Any, way_out: str) -> None:
    """Raise `ValueError` for the first entry marked wrong."""
    if not np.any(wrong):
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    label = f"{field}[{', '.join(map(str, index))}]" if index else field
    raise ValueError(f"{label} = {array[index]:g} is not allowed: {way_out}")


def something(problem: Any, to_do: str) -> None:
    """Raise `ValueError` if there are no devices, or no problems in the batch, to do something for."""
    if problem.num_devices == 0:
        raise ValueError(f"channel has no rows: there is nothing to {to_do} without devices")
    if 0 in getattr(problem, "batch_shape", ()):
        raise ValueError(
            f"channel has shape {problem.channel.shape}: its batch is empty, so there is nothing to {to_do}; "
            "give at least one problem"
        )


def above_zero(field: str, value: Any) -> None:
    """Raise `ValueError` unless the value is a number above zero, infinity included."""
    if not isinstance(value, int | float | np.integer | np.floating) or not value > 0:
        raise ValueError(f"{field} = {value!r} is not allowed: give a number above zero")
