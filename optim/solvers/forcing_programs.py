"""The two cvxpy programs of uniform forcing, compiled once per shape, solved with new numbers each time."""

import functools
import threading
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float

from optim.solvers import conic, lifted
from optim.solvers.forcing import Demand


@dataclass(frozen=True, eq=False)
class LiftedForcing:
    r"""``min <C, X>`` subject to :math:`c_k X c_k^H \ge 1` and :math:`X \succeq 0`."""

    problem: Any
    coordinates: Any
    gains: Any
    needs: Any
    cost: Any
    demands: Any

    def solve(
        self, demand: Demand, cost: Float[np.ndarray, "d"], solver: str
    ) -> tuple[Complex[np.ndarray, "n n"] | None, Float[np.ndarray, "m"], str]:
        """X in units of the demand's point, multipliers of the rows ``c_k`` in theirs, and the verdict."""
        self.gains.value = lifted.gain_coordinates(demand.directions)
        self.needs.value = (demand.strengths * demand.unit) ** -2.0
        self.cost.value = cost
        verdict = conic.solve_conic(self.problem, solver)
        if verdict == conic.FAILED:
            return None, np.zeros(len(demand.strengths)), verdict
        multipliers = np.maximum(self.demands.dual_value, 0.0) / demand.strengths**2
        return lifted.matrix(self.coordinates.value), multipliers, verdict


@dataclass(frozen=True, eq=False)
class TangentForcing:
    r"""``min |x|^2`` subject to the tangents :math:`2 \Re\{\bar z_k c_k x\} - |z_k|^2 \ge 1` at a point."""

    problem: Any
    beam: Any
    slopes: Any
    needs: Any

    def solve(
        self, demand: Demand, point: Complex[np.ndarray, "n"], solver: str
    ) -> tuple[Complex[np.ndarray, "n"] | None, str]:
        """The minimiser for tangents at `point`; both in the form's units."""
        received = demand.directions @ (point / demand.unit)
        size = np.abs(received)
        # Divided by 2 |z_k|, so that every row has unit norm.
        turned = demand.directions * (received.conj() / size)[:, None]
        self.slopes.value = np.concatenate([turned.real, -turned.imag], axis=-1)
        self.needs.value = ((demand.strengths * demand.unit) ** -2.0 + size**2) / (2 * size)
        verdict = conic.solve_conic(self.problem, solver)
        if verdict == conic.FAILED:
            return None, verdict
        real, imaginary = np.split(self.beam.value, 2)
        return (real + 1j * imaginary) * demand.unit, verdict


def lifted_forcing(demand: Demand) -> LiftedForcing:
    """The lifted program of the demand's shape."""
    return _lifted_forcing(*demand.directions.shape, threading.get_ident())


def tangent_forcing(demand: Demand) -> TangentForcing:
    """The tangent program of the demand's shape."""
    return _tangent_forcing(*demand.directions.shape, threading.get_ident())


# A program holds the numbers of its last use: threads must not share one.
@functools.lru_cache(maxsize=16)
def _lifted_forcing(num_devices: int, size: int, thread: int) -> LiftedForcing:
    coordinates, semidefinite = lifted.lifted_variable(size)
    gains, needs = cp.Parameter((num_devices, size**2)), cp.Parameter(num_devices, nonneg=True)
    cost = cp.Parameter(size**2)
    demands = gains @ coordinates >= needs
    problem = cp.Problem(cp.Minimize(cost @ coordinates), [semidefinite, demands])
    return LiftedForcing(problem, coordinates, gains, needs, cost, demands)


@functools.lru_cache(maxsize=16)
def _tangent_forcing(num_devices: int, size: int, thread: int) -> TangentForcing:
    beam = cp.Variable(2 * size)
    slopes, needs = cp.Parameter((num_devices, 2 * size)), cp.Parameter(num_devices, nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(beam)), [slopes @ beam >= needs])
    return TangentForcing(problem, beam, slopes, needs)
