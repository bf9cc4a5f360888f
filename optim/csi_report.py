"""What imperfect channel knowledge costs: believed, expected and realised errors, reported apart."""

from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float

from optim import checks
from optim.design import TransceiverDesign
from optim.evaluation import evaluate_receiver
from optim.interface import Effort
from optim.options import options_of
from optim.problem import AirCompProblem
from optim.solution import Solution, Value
from optim.solvers.robust import RobustDesign, nominal_design


@dataclass(frozen=True, eq=False)
class CsiReport:
    """Two designs for one estimate, and their errors; those in `..._realised` only if a channel was given.

    Args:
        nominal, robust: the design that takes the estimate for the channel, and the robust solution.
        believed_error: what the nominal design takes its error to be.
        nominal_error, robust_error: expected errors, over all channels that the estimate leaves possible.
        nominal_realised, robust_realised: errors on the true channel.
        informed_error: the error of a design that knows the true channel.
    """

    nominal: TransceiverDesign
    robust: Solution
    believed_error: Value
    nominal_error: Value
    robust_error: Value
    nominal_realised: Value | None = None
    robust_realised: Value | None = None
    informed_error: Value | None = None

    @property
    def price(self) -> Value:
        """The price of imperfect knowledge: expected error of the robust design over the believed one."""
        return _ratio(self.robust_error, self.believed_error)

    @property
    def optimism(self) -> Value:
        """How far the nominal design deceives itself: its expected error over the one it believes in."""
        return _ratio(self.nominal_error, self.believed_error)

    @property
    def gain(self) -> Value:
        """What robustness is worth: expected error of the nominal design over that of the robust one."""
        return _ratio(self.nominal_error, self.robust_error)


def csi_report(problem: AirCompProblem, channel: Any = None, **effort: Unpack[Effort]) -> CsiReport:
    """Nominal and robust design for an estimate, each with its expected and, on `channel`, realised error.

    Args:
        problem: with an `error_covariance`; its channel is the estimate.
        channel: the true channel, of the estimate's shape.
        effort: as of :func:`optim.solve`.

    Raises:
        ValueError: without an `error_covariance`, or for a channel of another shape.
    """
    if not isinstance(problem, AirCompProblem):
        raise ValueError(
            f"problem is a {type(problem).__name__}: a report is for one receiver, an AirCompProblem"
        )
    if problem.error_covariance is None:
        raise ValueError("error_covariance is missing: without it the estimate is the channel; give one")
    options = options_of(effort)
    nominal, robust = nominal_design(problem, options), RobustDesign(options).solve_receiver(problem)
    believed = evaluate_receiver(problem.replaced(error_covariance=None), nominal).mse
    report = CsiReport(nominal, robust, believed, evaluate_receiver(problem, nominal).mse, robust.mse)
    if channel is None:
        return report
    truth = _with_true_channel(problem, channel)
    return replace(
        report,
        nominal_realised=evaluate_receiver(truth, nominal).mse,
        robust_realised=evaluate_receiver(truth, robust.design).mse,
        informed_error=evaluate_receiver(truth, nominal_design(truth, options)).mse,
    )


def _with_true_channel(problem: AirCompProblem, channel: Any) -> AirCompProblem:
    true_channel = checks.complex_array("channel", channel)
    if true_channel.shape != problem.channel.shape:
        raise ValueError(
            f"channel has shape {true_channel.shape}, but the estimate {problem.channel.shape}: "
            "give one true channel per estimate"
        )
    return problem.replaced(channel=true_channel, error_covariance=None)


def _ratio(above: Value, below: Value) -> Float[np.ndarray, "*batch"] | float:
    """1 where both vanish, infinite where only `below` does."""
    numerator, denominator = np.asarray(above), np.asarray(below)
    positive = denominator > 0
    ratio = numerator / np.where(positive, denominator, 1.0)
    ratio = np.where(positive, ratio, np.where(numerator > 0, np.inf, 1.0))
    return ratio if ratio.ndim else float(ratio)
