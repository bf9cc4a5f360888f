"""What the channel is, and what its receiver believes it to be."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float


@dataclass(frozen=True)
class ChannelState:
    """Links of K devices to one receiver in one coherence block.

    A design may read `estimate` alone; symbols travel over `response`. With perfect channel state
    information both are the same array.
    """

    response: Complex[np.ndarray, "K N"]
    estimate: Complex[np.ndarray, "K N"]
    path_gain: Float[np.ndarray, "K"]
