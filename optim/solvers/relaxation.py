"""The joint MMSE relaxation as a cvxpy program: compiled once per shape, solved with new numbers."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float

from optim.combined.power_split import DeviceBudgets
from optim.solvers import conic, lifted
from optim.solvers.conic import ConicStream

# Phase, devices and dimension of a stream.
StreamShape = tuple[int, tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class Lifted:
    """A solved relaxation: covariances by (phase, receiver), powers, multipliers, the solver's verdict."""

    covariances: dict[tuple[int, int], Complex[np.ndarray, "n n"]]
    power: Float[np.ndarray, "J K"]
    multipliers: Float[np.ndarray, "J K"]
    verdict: str


@dataclass(frozen=True, eq=False)
class StreamProgram:
    """One stream's part of the program: its lifted beam, and the numbers it is solved with."""

    coordinates: Any
    gains: Any
    lost_weight: Any
    tie: Any

    def load(self, stream: ConicStream) -> None:
        """Put in a stream's numbers."""
        self.gains.value = lifted.gain_coordinates(stream.rows)
        self.lost_weight.value = stream.lost_weight


@dataclass(frozen=True, eq=False)
class RelaxationProgram:
    """The whole program; `power` is None where powers are fixed."""

    problem: Any
    parts: tuple[StreamProgram, ...]
    power: Any

    def solve(
        self, streams: Sequence[ConicStream], fallback_power: Float[np.ndarray, "J K"], solver: str
    ) -> Lifted:
        """Multipliers of failed solves are zeros, which certify nothing but never lie."""
        for part, stream in zip(self.parts, streams, strict=True):
            part.load(stream)
        verdict = conic.solve_conic(self.problem, solver)
        multipliers = np.zeros(fallback_power.shape)
        if verdict == conic.FAILED:
            return Lifted({}, fallback_power, multipliers, verdict)
        covariances = {}
        for part, stream in zip(self.parts, streams, strict=True):
            duals = np.maximum(part.tie.dual_value, 0.0) * stream.multiplier_unit
            multipliers[stream.phase, stream.devices] = duals
            covariances[stream.phase, stream.receiver] = lifted.matrix(part.coordinates.value)
        power = fallback_power if self.power is None else np.maximum(self.power.value, 0.0)
        return Lifted(covariances, power, multipliers, verdict)


def relax_receiver(stream: ConicStream, num_devices: int, solver: str) -> Lifted:
    """One receiver with fixed powers."""
    num_heard, size = stream.rows.shape
    program = _receiver_program(num_heard, size, threading.get_ident())
    return program.solve([stream], np.ones((2, num_devices)), solver)


def relax_combined(streams: Sequence[ConicStream], budgets: DeviceBudgets, solver: str) -> Lifted:
    """Several receivers and the powers of all devices."""
    shapes = tuple((s.phase, tuple(s.devices.tolist()), s.rows.shape[1]) for s in streams)
    program, limits = _combined_program(shapes, *budgets.targets.shape, threading.get_ident())
    limits.load(budgets)
    return program.solve(streams, np.ones(budgets.targets.shape), solver)


def assembled(shapes: Sequence[StreamShape], power: Any, constraints: Sequence[Any]) -> RelaxationProgram:
    """The program of streams whose devices have the (J, K) relative powers `power`, a variable or fixed."""
    parts, cost, limits = [], [], list(constraints)
    for phase, devices, size in shapes:
        coordinates, semidefinite = lifted.lifted_variable(size)
        gains, lost_weight = cp.Parameter((len(devices), size**2)), cp.Parameter(len(devices), nonneg=True)
        arriving = cp.Variable(len(devices))
        tie = arriving <= gains @ coordinates
        lost, cones = conic.lost_signal(lost_weight, arriving, power[phase][list(devices)])
        cost.append(lifted.trace_coordinates(size) @ coordinates + lost)
        limits += [semidefinite, tie, *cones]
        parts.append(StreamProgram(coordinates, gains, lost_weight, tie))
    problem = cp.Problem(cp.Minimize(sum(cost)), limits)
    return RelaxationProgram(problem, tuple(parts), power if isinstance(power, cp.Expression) else None)


# A program holds the numbers of its last use: threads must not share one.
@functools.lru_cache(maxsize=16)
def _receiver_program(num_heard: int, size: int, thread: int) -> RelaxationProgram:
    return assembled([(0, tuple(range(num_heard)), size)], np.ones((1, num_heard)), [])


@functools.lru_cache(maxsize=16)
def _combined_program(
    shapes: tuple[StreamShape, ...], num_phases: int, num_devices: int, thread: int
) -> tuple[RelaxationProgram, conic.PowerLimits]:
    limits = conic.power_limits(num_phases, num_devices)
    return assembled(shapes, limits.power, limits.constraints), limits
