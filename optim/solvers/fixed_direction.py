"""Receive directions chosen without an optimiser; scale and powers are then optimal."""

import abc
from dataclasses import dataclass, field
from typing import final

from optim import directions, mse
from optim.design import TransceiverDesign
from optim.directions import Directions
from optim.normal_form import NormalForm
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.solvers.separate import AbstractSeparateSolver


class AbstractFixedDirection(AbstractSeparateSolver):
    """The threshold rule [Cao20] behind the best of a few directions."""

    @abc.abstractmethod
    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        """Directions of a flat batch."""

    def design(self, problem: AirCompProblem, form: NormalForm) -> TransceiverDesign:
        """Weak devices at full power, strong ones inverted, at the best scale."""
        flat = problem.flattened()
        beamformer = directions.best_along(form, self.candidates(flat, form))
        return TransceiverDesign(mse.best_transmit_scalars(flat, beamformer), beamformer)


@final
@dataclass(frozen=True)
class RandomDirection(AbstractFixedDirection):
    """A random receive direction, with the best scale and powers [Cao20].

    Complex Gaussian, drawn once per call from `seed`.
    """

    options: SolverOptions = field(default_factory=SolverOptions)

    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        return directions.random_direction(form, self.options.generator())


@final
@dataclass(frozen=True)
class WeightedSum(AbstractFixedDirection):
    """The direction of the channels' weighted sum, with the best scale and powers [Cao20]."""

    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        return directions.weighted_sum(problem)


@final
@dataclass(frozen=True)
class LeadingEigenvector(AbstractFixedDirection):
    """The direction in which most power arrives, with the best scale and powers [Cao20]."""

    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        return directions.leading_eigenvector(problem)


@final
@dataclass(frozen=True)
class WeakestDevice(AbstractFixedDirection):
    """Maximum ratio combining of the weakest device, with the best scale and powers [Cao20]."""

    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        return directions.weakest_device(problem)


@final
@dataclass(frozen=True)
class AntennaSelection(AbstractFixedDirection):
    """The best single antenna, with the best scale and powers [Cao20]."""

    def candidates(self, problem: AirCompProblem, form: NormalForm) -> Directions:
        return directions.single_antennas(problem)
