"""Designs as trees and back: one receiver's, or one per stream."""

import pathlib
from typing import Any

from optim.design import CombinedDesign, TransceiverDesign
from optim.files import numbers
from optim.files.source import FindingError, kind_of
from optim.places import Path

Design = TransceiverDesign | CombinedDesign


def design_tree(design: Design) -> dict[str, Any]:
    """The parts of a design by name; the power of every device comes along for readers."""
    if isinstance(design, CombinedDesign):
        return {
            "base_station": design_tree(design.base_station),
            "edge_servers": [design_tree(part) for part in design.edge_servers],
        }
    return {
        "receive_beamformer": design.receive_beamformer,
        "transmit_scalars": design.transmit_scalars,
        "device_antennas": design.device_antennas,
        "power_w": design.power_w,
    }


def design_of(raw: Any, path: Path, axes: int) -> Design:
    """The design of a tree, for problems with so many batch axes."""
    if not isinstance(raw, dict):
        raise FindingError(path, f"{kind_of(raw)} is no design", "write the solution again")
    if "base_station" in raw:
        edges = _part(raw, "edge_servers", path)
        parts = [_transceiver(part, (*path, "edge_servers", n), axes) for n, part in enumerate(edges)]
        return CombinedDesign(_transceiver(raw["base_station"], (*path, "base_station"), axes), tuple(parts))
    return _transceiver(raw, path, axes)


def _transceiver(raw: Any, path: Path, axes: int) -> TransceiverDesign:
    nowhere = pathlib.Path()
    antennas = numbers.one_whole(_part(raw, "device_antennas", path), (*path, "device_antennas"), nowhere)
    arrays = [
        numbers.fitted(numbers.complexes(_part(raw, name, path), (*path, name), nowhere), wanted)
        for name, wanted in (
            ("transmit_scalars", axes + 1 + (antennas > 1)),
            ("receive_beamformer", axes + 1),
        )
    ]
    return TransceiverDesign(arrays[0], arrays[1], antennas)


def _part(raw: Any, name: str, path: Path) -> Any:
    if not isinstance(raw, dict) or name not in raw:
        raise FindingError(path, f"{name} is missing", "write the solution again")
    return raw[name]
