r"""Uniform forcing in the normal form: every gain exactly its target, with the least noise.

.. math:: \min_x\ \|x\|^2 \quad\text{s.t.}\quad |c_k x| \ge 1, \qquad c_k = a_k / w_k

A device whose channel is good enough, :math:`\sqrt{P_k} |m^H h_k| \ge \omega_k`, sends with less power. The
design is unbiased: misalignment is zero, noise is all that remains. Any direction that misses no device
becomes feasible by a factor, :math:`1 / \min_k |c_k x|`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from optim import normal_form
from optim.infeasible import InfeasibleError
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.problem import AirCompProblem

CANDIDATES_PER_START = 8


@dataclass(frozen=True, eq=False)
class Demand:
    """One problem's ``c_k = strength_k * direction_k`` of the devices with a target, and a feasible point.

    Programs are solved in units of that point's length, which makes their optimum at most 1.
    """

    directions: Complex[np.ndarray, "m n"]
    strengths: Float[np.ndarray, "m"]
    devices: Int[np.ndarray, "m"]
    start: Complex[np.ndarray, "n"]

    @property
    def unit(self) -> float:
        """Length of the feasible point."""
        return float(np.linalg.norm(self.start))

    def scaled(self, points: Complex[np.ndarray, "S n"]) -> Complex[np.ndarray, "_ n"]:
        """The points that miss no device, each made just feasible, least noise first."""
        if not self.devices.size:
            return np.zeros_like(points[:1])
        least = (np.abs(points @ self.directions.T) * self.strengths).min(axis=-1)
        feasible = points[least > 0] / least[least > 0, None]
        return feasible[np.argsort(np.linalg.norm(feasible, axis=-1), kind="stable")]


def demand(form: NormalForm, index: int, options: SolverOptions) -> Demand:
    """Problem number `index` of a form, with the best of some simple directions as its feasible point."""
    devices = np.flatnonzero(form.targets[index] > 0)
    rows = form.rows[index, devices] / form.targets[index, devices, None]
    strengths = np.linalg.norm(rows, axis=-1)
    directions = rows / strengths[:, None]
    bare = Demand(directions, strengths, devices, np.zeros(rows.shape[-1], dtype=np.complex128))
    start = bare.scaled(_candidates(directions, strengths, options))[0]
    return Demand(directions, strengths, devices, start)


def require_heard(problem: AirCompProblem) -> None:
    """Raise `InfeasibleError` if a device with a target has no power or no channel."""
    flat = problem.flattened()
    form = normal_form.apply(flat)
    for index in np.flatnonzero(form.lost > 0):
        channel, power_w, targets = flat.channel[index], flat.power_budget_w[index], flat.target_gains[index]
        device = int(np.argmax((targets > 0) & ((power_w == 0) | (channel == 0).all(axis=-1))))
        place = f" of problem {index} in the batch" if problem.batch_shape else ""
        missing = "power_budget_w" if power_w[device] == 0 else "channel"
        raise InfeasibleError(
            f"device {device}{place} cannot be heard, but uniform forcing needs it to arrive with "
            f"target_gains = {targets[device]:g}: its {missing} is 0. Give it power and a channel, set its "
            "target to 0, or minimise the error instead (method 'auto')"
        )


def _candidates(
    directions: Complex[np.ndarray, "m n"], strengths: Float[np.ndarray, "m"], options: SolverOptions
) -> Complex[np.ndarray, "S n"]:
    """Every matched filter, their sum equalised, and isotropic samples, which almost surely miss nobody."""
    rng = options.generator()
    shape = CANDIDATES_PER_START * options.starts, directions.shape[-1]
    samples = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    matched = directions.conj()
    return np.concatenate([matched, (matched / strengths[:, None]).sum(axis=0)[None], samples])
