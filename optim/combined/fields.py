"""Refuse impossible fields of a combined problem: which one, which entry, what would do."""

from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Int

from optim import checks


def matrix(field: str, values: Any) -> Complex[np.ndarray, "rows N"]:
    """A read-only complex matrix with at least one column."""
    matrix = checks.complex_array(field, values)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(
            f"{field} has shape {matrix.shape}: give one row per device and one column per antenna"
        )
    matrix.setflags(write=False)
    return matrix


def per_device(field: str, values: Any, num_devices: int) -> Float[np.ndarray, "K"]:
    """One number per device, from one for all or one each."""
    return checks.broadcast(field, checks.real_array(field, values), (num_devices,))


def member_list(task: int, values: Any) -> Int[np.ndarray, "_"]:
    """A read-only list of device indices."""
    members = np.asarray(values)
    if members.ndim != 1 or (members.size and not np.issubdtype(members.dtype, np.integer)):
        raise ValueError(f"members[{task}] = {values!r} is not allowed: give a list of device indices")
    members = members.astype(np.int64)
    members.setflags(write=False)
    return members


def check_partition(members: tuple[Int[np.ndarray, "_"], ...], num_devices: int) -> None:
    """Raise `ValueError` unless every device stands in exactly one task."""
    for task, devices in enumerate(members):
        checks.refuse(
            f"members[{task}]",
            devices,
            (devices < 0) | (devices >= num_devices),
            f"devices are 0 to {num_devices - 1}",
        )
    counts = np.bincount(np.concatenate([*members, np.zeros(0, np.int64)]), minlength=num_devices)
    if (counts != 1).any():
        device = int(np.argmax(counts != 1))
        raise ValueError(
            f"members: device {device} stands in {counts[device]} tasks; every device needs exactly one "
            "(drop absent devices from all arguments)"
        )


def check_rows(
    channels: tuple[Complex[np.ndarray, "_ _"], ...],
    members: tuple[Int[np.ndarray, "_"], ...],
    num_devices: int | None,
) -> None:
    """Raise `ValueError` unless every task has a channel with a row per member, or per device under reuse.

    `num_devices` is the number of rows under reuse, else None.
    """
    if len(channels) != len(members):
        raise ValueError(
            f"edge_channels has {len(channels)} entries but members has {len(members)}: one each per task"
        )
    for task, (channel, devices) in enumerate(zip(channels, members, strict=True)):
        if num_devices is not None and len(channel) != num_devices:
            raise ValueError(
                f"edge_channels[{task}] has {len(channel)} rows but there are {num_devices} devices: with "
                'task_access="reuse" every edge server hears everybody, so give one row per device'
            )
        if num_devices is None and len(channel) != len(devices):
            raise ValueError(
                f"edge_channels[{task}] has {len(channel)} rows but members[{task}] has {len(devices)} "
                "devices: give one row per member, in the same order"
            )


def check_access(task_access: str) -> None:
    """Raise `ValueError` for a way to share the channel that there is not."""
    if task_access not in ("orthogonal", "reuse"):
        raise ValueError(f"task_access = {task_access!r} is not allowed: choose 'orthogonal' or 'reuse'")


def weight(value: float) -> float:
    """One number above zero."""
    weight = checks.real_array("misalignment_weight", value)
    checks.positive("misalignment_weight", weight, "1 gives Pi, large weights approach uniform forcing")
    if weight.ndim:
        raise ValueError(f"misalignment_weight has shape {weight.shape}: give one number for all streams")
    return float(weight)


def payload_std(
    values: Any, num_devices: int
) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]] | None:
    """The pair (shared, personal) with one deviation per device each, or None where nothing was given."""
    if values is None:
        return None
    entries = len(values) if hasattr(values, "__len__") else 1
    if entries != 2:
        raise ValueError(f"payload_std has {entries} entries: give the pair (shared, personal)")
    pair = []
    for name, std in zip(("shared", "personal"), values, strict=True):
        field = f"payload_std ({name})"
        array = per_device(field, std, num_devices)
        checks.non_negative(field, array, "standard deviations are 0 or more")
        pair.append(array)
    return pair[0], pair[1]
