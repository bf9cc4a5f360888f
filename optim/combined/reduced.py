r"""Pi as a function of the beamformers alone: every device answers with its best power split.

.. math:: F(x) = \sum_i W_i \|x_i\|^2 + \sum_k F_k\big(|a_{1k} x|, \dots, |a_{Jk} x|\big)

with :math:`F_k` the smallest weighted misalignment of a device's phases under its budget. All beamformers
form one vector, so what arrives from all transmissions is one product of matrices.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.combined.form import Beams, CombinedForm
from optim.combined.power_split import best_split, nonzero

Point = Complex[np.ndarray, "*batch D"]
PerPhase = Float[np.ndarray, "*batch J K"]


class ReducedObjective:
    """F for a batch of points, and the way between points and beams."""

    def __init__(self, form: CombinedForm) -> None:
        self.form = form
        self.shapes = [(len(stack.rows), stack.rows.shape[-1]) for stack in form.stacks]
        sizes = [receivers * antennas for receivers, antennas in self.shapes]
        self._cuts = np.cumsum(sizes)[:-1]
        self.dimension = sum(sizes)
        self.rows: Complex[np.ndarray, "J K D"] = np.zeros(
            (*form.budgets.targets.shape, self.dimension), dtype=np.complex128
        )
        self.weights: Float[np.ndarray, D] = np.zeros(self.dimension)
        self.receivers: list[slice] = []
        self._harm: list[tuple[int, float, slice, Complex[np.ndarray, "K n"]]] = []
        for phase, stack in enumerate(form.stacks):
            for receiver, weight in enumerate(stack.weights):
                start = self.receivers[-1].stop if self.receivers else 0
                span = slice(start, start + stack.rows.shape[-1])
                own = np.flatnonzero(stack.receiver_of == receiver)
                self.rows[phase, own, span] = stack.rows[receiver, stack.slot_of[own]]
                self.weights[span] = weight
                self.receivers.append(span)
                if stack.cross is not None:
                    self._harm.append((phase, float(weight), span, stack.cross[receiver]))

    def join(self, beams: Beams) -> Point:
        """Beams of all phases as one vector."""
        return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in beams], axis=-1)

    def split(self, points: Point) -> Beams:
        """The inverse of :meth:`join`."""
        parts = zip(np.split(points, self._cuts, axis=-1), self.shapes, strict=True)
        return tuple(part.reshape(*part.shape[:-1], *shape) for part, shape in parts)

    def arriving(self, points: Point) -> Complex[np.ndarray, "*batch J K"]:
        """What arrives from every transmission at reference power."""
        phases, devices, dimension = self.rows.shape
        arrived = points @ self.rows.reshape(-1, dimension).T
        return arrived.reshape(*points.shape[:-1], phases, devices)

    def leaks(self, points: Point) -> PerPhase | None:
        """Harm to other tasks per unit of power, in the units of the power split; None without any."""
        if not self._harm:
            return None
        leaks = np.zeros((*points.shape[:-1], *self.rows.shape[:2]))
        for phase, weight, span, cross in self._harm:
            leaks[..., phase, :] += weight * np.abs(points[..., span] @ cross.T) ** 2
        return leaks / nonzero(self.form.budgets.shares)

    def split_power(self, points: Point) -> PerPhase:
        """Every device's best powers behind these beams."""
        return best_split(self.form.budgets, np.abs(self.arriving(points)), self.leaks(points))

    def value(self, points: Point) -> Float[np.ndarray, "*batch"]:
        """F, relative to silence."""
        strengths, leaks = np.abs(self.arriving(points)), self.leaks(points)
        power = best_split(self.form.budgets, strengths, leaks)
        shortfall = np.maximum(self.form.budgets.targets - np.sqrt(power) * strengths, 0.0)
        lost = (self.form.device_weights * shortfall**2).sum(axis=(-2, -1))
        if leaks is not None:
            lost = lost + (self.form.budgets.shares * power * leaks).sum(axis=(-2, -1))
        return np.asarray(lost + ((points.real**2 + points.imag**2) * self.weights).sum(axis=-1))

    def interference(self, power: Float[np.ndarray, "S J K"]) -> Complex[np.ndarray, "S D D"] | None:
        """The matrix Q of what leaks at given powers, ``x^H Q x``; None without any."""
        if not self._harm:
            return None
        matrix = np.zeros((len(power), self.dimension, self.dimension), dtype=np.complex128)
        for phase, weight, span, cross in self._harm:
            scaled = np.sqrt(weight * power[:, phase])[..., None] * cross
            matrix[:, span, span] = np.swapaxes(scaled.conj(), -1, -2) @ scaled
        return matrix
