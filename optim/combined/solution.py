"""What a solver hands back for all streams of a round."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optim.combined.mse import stream_mse
from optim.combined.problem import CombinedProblem
from optim.design import CombinedDesign
from optim.solution import History, Status, relative_gap, require_at_most, require_equal


@dataclass(frozen=True, eq=False)
class CombinedSolution:
    """A design for a :class:`~optim.CombinedProblem` and the errors it reaches."""

    design: CombinedDesign
    pi: float
    stream_mse: Float[np.ndarray, "E1"]
    lower_bound: float
    status: Status
    history: History

    @property
    def gap(self) -> float:
        """``pi / lower_bound - 1``: distance to the certificate; at rounding level, proof of optimality."""
        return float(relative_gap(self.pi, self.lower_bound))

    def verify(self, problem: CombinedProblem) -> None:
        """Recompute errors, peak and average powers and the order of the bound.

        Raises:
            VerificationError: naming the quantity that disagrees.
        """
        recomputed = stream_mse(problem, self.design)
        require_equal("stream_mse", self.stream_mse, recomputed, np.maximum(recomputed, self.pi))
        require_equal("pi", self.pi, float(problem.stream_weights @ recomputed), self.pi)
        shared_w, personal_w = phase_power_w(problem, self.design)
        for name, power_w in (("base station", shared_w), ("edge servers", personal_w)):
            require_at_most(f"power towards the {name}", power_w, problem.peak_power_w)
        share_s, share_p = problem.shares
        require_at_most("average power", share_s * shared_w + share_p * personal_w, problem.average_power_w)
        require_at_most("lower_bound", self.lower_bound, self.pi)


def phase_power_w(
    problem: CombinedProblem, design: CombinedDesign
) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """Power each device spends while it sends to the base station, and to its edge server."""
    personal_w = np.zeros(problem.num_devices)
    for task, part in zip(problem.members, design.edge_servers, strict=True):
        personal_w[task] = part.power_w
    return design.base_station.power_w, personal_w
