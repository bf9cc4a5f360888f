r"""One step of successive approximation as a cvxpy program: compiled once per shape, solved with new numbers.

The squared gain is replaced by its tangent at the present point, :math:`|a_k x|^2 \ge 2 \Re\{\bar z_k a_k
x\} - |z_k|^2`, which leaves a convex problem in beams and powers together. Complex parameters would make
cvxpy rebuild the program each time, so beams are real vectors here.
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Complex

from optim import hinge
from optim.combined.power_split import DeviceBudgets
from optim.phase_step import arriving
from optim.solvers import conic
from optim.solvers.conic import ConicStream
from optim.solvers.relaxation import StreamShape


@dataclass(frozen=True, eq=False)
class Tangent:
    """One stream's part of a program: its beam, and slopes and offsets of the linearised gains."""

    beam: Any
    slopes: Any
    offsets: Any
    lost_weight: Any


@dataclass(frozen=True, eq=False)
class TangentProgram:
    """A program loaded with the numbers of its streams; a step is `touch`, `solve`, `point`."""

    problem: Any
    parts: Sequence[tuple[ConicStream, Tangent]]

    def touch(self, points: Sequence[Complex[np.ndarray, "_"]]) -> None:
        """Put the tangents at normal-form points, one per stream."""
        for (stream, tangent), point in zip(self.parts, points, strict=True):
            received = arriving(stream.rows, point / stream.beam_unit)
            tangent.slopes.value = 2 * hinge.real_rows(received.conj()[:, None] * stream.rows)
            tangent.offsets.value = np.abs(received) ** 2

    def solve(self, solver: str) -> str:
        """How it went, as :func:`optim.solvers.conic.solve_conic` says it."""
        return conic.solve_conic(self.problem, solver)

    def points(self) -> list[Complex[np.ndarray, "_"]]:
        """The normal-form points the program ended at, one per stream."""
        return [hinge.complex_point(np.asarray(t.beam.value)) * s.beam_unit for s, t in self.parts]


def receiver_program(stream: ConicStream) -> TangentProgram:
    """One receiver with fixed powers."""
    return _loaded([stream], *_compiled_receiver(*stream.rows.shape, threading.get_ident()))


def combined_program(streams: Sequence[ConicStream], budgets: DeviceBudgets) -> TangentProgram:
    """Several receivers and the powers of all devices."""
    shapes = tuple((s.phase, tuple(s.devices.tolist()), s.rows.shape[1]) for s in streams)
    program, tangents, limits = _compiled_combined(shapes, *budgets.targets.shape, threading.get_ident())
    limits.load(budgets)
    return _loaded(streams, program, tangents)


def _loaded(streams: Sequence[ConicStream], program: Any, tangents: tuple[Tangent, ...]) -> TangentProgram:
    for stream, tangent in zip(streams, tangents, strict=True):
        tangent.lost_weight.value = stream.lost_weight
    return TangentProgram(program, tuple(zip(streams, tangents, strict=True)))


def _assembled(
    shapes: Sequence[StreamShape], power: Any, constraints: Sequence[Any]
) -> tuple[Any, tuple[Tangent, ...]]:
    cost, tangents, limits = [], [], list(constraints)
    for phase, devices, size in shapes:
        beam = cp.Variable(2 * size)
        slopes = cp.Parameter((len(devices), 2 * size))
        offsets, lost_weight = (cp.Parameter(len(devices), nonneg=True) for _ in range(2))
        lost, cones = conic.lost_signal(lost_weight, slopes @ beam - offsets, power[phase][list(devices)])
        cost.append(cp.sum_squares(beam) + lost)
        limits += cones
        tangents.append(Tangent(beam, slopes, offsets, lost_weight))
    return cp.Problem(cp.Minimize(sum(cost)), limits), tuple(tangents)


# A program holds the numbers of its last use: threads must not share one.
@functools.lru_cache(maxsize=16)
def _compiled_receiver(num_heard: int, size: int, thread: int) -> tuple[Any, tuple[Tangent, ...]]:
    return _assembled([(0, tuple(range(num_heard)), size)], np.ones((1, num_heard)), [])


@functools.lru_cache(maxsize=16)
def _compiled_combined(
    shapes: tuple[StreamShape, ...], num_phases: int, num_devices: int, thread: int
) -> tuple[Any, tuple[Tangent, ...], conic.PowerLimits]:
    limits = conic.power_limits(num_phases, num_devices)
    return *_assembled(shapes, limits.power, limits.constraints), limits
