"""What a solver hands back for all streams of a round."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optim.combined import mse
from optim.combined.blocks import MultiBlockDesign
from optim.combined.layout import LARGEST_SYSTEM
from optim.combined.mse import AnyDesign, AnyProblem
from optim.design import CombinedDesign
from optim.solution import (
    PROVED_GAP,
    History,
    Status,
    VerificationError,
    relative_gap,
    require_at_most,
    require_equal,
)


@dataclass(frozen=True, eq=False)
class CombinedSolution:
    """A design for a :class:`~optim.CombinedProblem` and the errors it reaches.

    `lower_bound` is below the `objective` of every design: Pi, unless misalignment is weighted. With several
    blocks `stream_mse` goes through them in turn, and the design has one part per block.
    """

    design: CombinedDesign | MultiBlockDesign
    pi: float
    objective: float
    stream_mse: Float[np.ndarray, "streams"]
    lower_bound: float
    certified: bool
    status: Status
    history: History

    @property
    def gap(self) -> float:
        """``objective / lower_bound - 1``: distance to the bound; at rounding level, proof of optimality."""
        return float(relative_gap(self.objective, self.lower_bound))

    @property
    def bound_is_loose(self) -> bool:
        """Whether the bound leaves out transmissions, as there are too many, so that the gap says little."""
        transmissions = sum(part.transmit_scalars.shape[-1] for part in self.design.streams)
        return transmissions > LARGEST_SYSTEM and self.gap > PROVED_GAP

    @property
    def certificate(self) -> str:
        """What the bound says about this design, as a sentence."""
        if self.certified:
            return f"Certified: no design lowers the objective by more than {self.gap / (1 + self.gap):.2%}."
        return (
            "Not certified: the tasks share one channel and the bound leaves out their interference. It is "
            "valid but may be far below every design, so the gap does not say how good this one is."
        )

    def verify(self, problem: AnyProblem) -> None:
        """Recompute errors and powers; of the bound only that it is not above the objective.

        Raises:
            VerificationError: naming the quantity that disagrees.
        """
        try:
            mse.require_fit(problem, self.design)
        except ValueError as misfit:
            raise VerificationError(str(misfit)) from misfit
        recomputed = mse.stream_mse(problem, self.design)
        require_equal("stream_mse", self.stream_mse, recomputed, np.maximum(recomputed, self.pi))
        require_equal("pi", self.pi, float(problem.stream_weights @ recomputed), self.pi)
        require_equal("objective", self.objective, mse.objective(problem, self.design), self.objective)
        powers_w = phase_power_w(problem, self.design)
        for phase, power_w in enumerate(powers_w):
            receiver = "edge servers" if phase % 2 else "base station"
            require_at_most(f"power towards the {receiver}", power_w, problem.peak_power_w)
        require_at_most("average power", phase_shares(problem) @ powers_w, problem.average_power_w)
        require_at_most("lower_bound", self.lower_bound, self.objective)


def phase_power_w(problem: AnyProblem, design: AnyDesign) -> Float[np.ndarray, "J K"]:
    """Power each device spends towards the base station, then towards its edge server, block by block."""
    designs = design.blocks if isinstance(design, MultiBlockDesign) else (design,)
    powers_w = []
    for block, part in zip(problem.blocks, designs, strict=True):
        powers_w.append(part.base_station.power_w)
        powers_w.append(np.abs(mse.personal_scalars(block, part)) ** 2)
    return np.stack(powers_w)


def phase_shares(problem: AnyProblem) -> Float[np.ndarray, "J"]:
    """How much of the round each of these phases takes."""
    pairs = zip(problem.block_shares, problem.blocks, strict=True)
    return np.concatenate([share * np.array(block.shares) for share, block in pairs])
