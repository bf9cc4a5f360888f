"""The lines of a figure: means over seeds with their confidence bands, taken from a sweep's table."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from airsim.errors import ResultsError
from optim import quantity

CONFIDENCE = 0.95

LABELS = {
    "channel.snr": "Mean receive SNR per antenna (dB)",
    "network.devices.per_edge_server": "Devices per edge server",
    "allocation.misalignment_weight": "Misalignment weight",
    "aggregation.method": "Method",
    "uplink.mode": "Uplink",
    "accuracy": "Accuracy, mean over tasks",
    "accuracy_worst_task": "Accuracy of the worst task",
    "accuracy_global": "Accuracy of the global model",
    "accuracy_global_worst_task": "Accuracy of the global model, worst task",
    "accuracy_cross_task": "Accuracy over all tasks",
    "accuracy_devices": "Accuracy, mean over devices",
    "accuracy_worst_decile": "Accuracy, worst decile of devices",
    "loss": "Training loss",
    "pi_predicted": r"Predicted $\Pi_t$, mean over rounds",
    "pi_realised": r"Realised $\Pi_t$, mean over rounds",
    "sim_time_s": "Simulated time (s)",
    "energy_j": "Energy (J)",
    "channel_uses": "Channel uses",
    "round": "Round",
    "pi": r"$\Pi_t$",
}


@dataclass(frozen=True)
class Point:
    """Mean over the seeds at one x, and half the width of its 95 % band (0 for a single seed)."""

    x: float
    mean: float
    half_width: float
    num_seeds: int


@dataclass(frozen=True)
class Curve:
    """One line of a figure; the label names the values of every other swept key.

    A point with a failed trial is not drawn, since the mean of those that did not diverge flatters; its x
    is in `omitted`.
    """

    label: str
    points: tuple[Point, ...]
    omitted: tuple[float, ...] = ()


def label_of(key: str) -> str:
    """Axis text of a swept key or a measure."""
    return LABELS.get(key, key.rsplit(".", 1)[-1].replace("_", " ").capitalize())


def is_number(value: str) -> bool:
    """Whether a swept value, with or without a unit, can stand on an axis."""
    return _number_and_unit(value) is not None


def axis_of(values: Sequence[str], key: str) -> tuple[dict[str, float], str]:
    """Where each swept value stands on an axis, all in the unit of the last, and that unit.

    Raises:
        ResultsError: a value is no number, so it cannot stand on an axis.
    """
    parts = {}
    for value in values:
        part = _number_and_unit(value)
        if part is None:
            raise ResultsError(
                f"{key} = '{value}' is no number and cannot be the x axis: name another x in the scenario's "
                "`figures`"
            )
        parts[value] = part
    unit = parts[values[-1]][1]
    units = {own for _, own in parts.values()}
    if units == {unit}:
        return {value: number for value, (number, _) in parts.items()}, unit
    dimension = next((d for d in quantity.DIMENSIONS if units <= set(d.linear)), None)
    if dimension is None:
        raise ResultsError(f"{key}: values in {', '.join(sorted(units))} cannot share an axis")
    one = quantity.parse(f"1 {unit}", dimension)
    return {value: quantity.parse(value, dimension) / one for value in values}, unit


def _number_and_unit(value: str) -> tuple[float, str] | None:
    parts = quantity.split(value)
    if parts is not None:
        return float(parts[0]), parts[1]
    try:
        number = float(value)
    except ValueError:
        return None
    return (number, "") if math.isfinite(number) else None


def with_unit(label: str, unit: str) -> str:
    """An axis text that names its unit once."""
    return label if not unit or label.endswith(f"({unit})") else f"{label} ({unit})"


def curves(
    rows: Sequence[Mapping[str, str]], x: str, y: str, swept_keys: Sequence[str], hue: str | None
) -> tuple[Curve, ...]:
    """One curve for each combination of the swept keys other than x.

    Raises:
        ResultsError: x or y is no column, or no trial has a value.
    """
    for name in (x, y):
        if rows and name not in rows[0]:
            raise ResultsError(f"the results have no column '{name}': they have {', '.join(rows[0])}")
    others = sorted((key for key in swept_keys if key != x), key=lambda key: key != hue)
    places, _ = axis_of([row[x] for row in rows], x)
    grouped: dict[tuple[str, ...], dict[float, list[str]]] = {}
    for row in rows:
        line = grouped.setdefault(tuple(row[key] for key in others), {})
        line.setdefault(places[row[x]], []).append(row[y])
    lines = tuple(_curve(_label(others, values), line) for values, line in grouped.items())
    if not any(curve.points for curve in lines):
        raise ResultsError(f"no point of this sweep has a value of {y} on every seed: see failures.json")
    return lines


def _curve(label: str, line: Mapping[float, Sequence[str]]) -> Curve:
    whole = {x: [float(cell) for cell in cells] for x, cells in sorted(line.items()) if "" not in cells}
    omitted = tuple(x for x in sorted(line) if x not in whole)
    return Curve(label, tuple(_point(x, seen) for x, seen in whole.items()), omitted)


def _label(keys: Sequence[str], values: Sequence[str]) -> str:
    if len(keys) == 1:
        return readable(values[0])
    return ", ".join(f"{label_of(key)} {readable(value)}" for key, value in zip(keys, values, strict=True))


def readable(value: str) -> str:
    """A value for a legend: `1.0` is `1`, and a swept block, JSON in the table, `name value, name value`."""
    if value.startswith("{"):
        return ", ".join(f"{name.replace('_', ' ')} {entry}" for name, entry in json.loads(value).items())
    return value.removesuffix(".0")


def _point(x: float, seen: Sequence[float]) -> Point:
    mean = statistics.fmean(seen)
    if len(seen) < 2:
        return Point(x, mean, 0.0, len(seen))
    quantile = float(student.ppf((1 + CONFIDENCE) / 2, len(seen) - 1))
    return Point(x, mean, quantile * statistics.stdev(seen) / len(seen) ** 0.5, len(seen))
