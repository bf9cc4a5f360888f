"""What a digital reference says, and the normalised links that it is computed from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optim import normal_form
from optim.combined.mse import AnyProblem
from optim.normal_form import NormalForm
from optim.problem import AirCompProblem
from optim.solution import Value

MOST_DEVICES = 10


@dataclass(frozen=True, eq=False)
class DigitalReference:
    """An error that belongs to no analog design, and what it stands for.

    `channel_uses` are complex ones per payload entry, where they are not the analog sum's.
    """

    mse: Value
    note: str
    channel_uses: Value | None = None


def one_receiver(problem: AirCompProblem | AnyProblem) -> AirCompProblem:
    """The problem, if it has one receiver."""
    if not isinstance(problem, AirCompProblem):
        raise ValueError("a digital reference is for one receiver: give an AirCompProblem for each of them")
    return problem


def links(problem: AirCompProblem) -> NormalForm:
    """The normal form of the mean squared error over a known channel; or why there is none."""
    if problem.error_covariance is not None:
        raise ValueError("error_covariance is given, but digital references know the channel: leave it out")
    if problem.device_antennas > 1:
        raise ValueError(
            f"device_antennas = {problem.device_antennas}: digital references take one antenna per device"
        )
    # How misalignment is weighed does not concern a number that is not misaligned.
    return normal_form.apply(problem.replaced(misalignment_weight=1.0))


def snr_of(form: NormalForm) -> Float[np.ndarray, "B K"]:
    r"""``P_k |h_k|^2 / sigma^2`` of every device with a target."""
    return (np.abs(form.rows) ** 2).sum(axis=-1)


def require_few(form: NormalForm) -> None:
    """Raise unless all subsets of the devices can be enumerated."""
    if form.targets.shape[-1] > MOST_DEVICES:
        raise ValueError(
            f"{form.targets.shape[-1]} devices: the limits of all subsets are enumerated, which ends at "
            f"{MOST_DEVICES}; compare a cohort of fewer devices"
        )


def shaped(values: Float[np.ndarray, "B"], problem: AirCompProblem) -> Value:
    """Numbers in the batch shape of the problem; a float for a single one."""
    return values.reshape(problem.batch_shape) if problem.batch_shape else float(values[0])
