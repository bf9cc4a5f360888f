"""Turn transmit powers into joules."""

import numpy as np
from jaxtyping import Complex, Float


def transmit_energy_j(
    transmit_scalars: Complex[np.ndarray, "K"], symbols: int, bandwidth_hz: float
) -> Float[np.ndarray, "K"]:
    """Energy of each device in one phase: ``|b_k|^2 S / B`` for S unit-power symbols."""
    return np.abs(transmit_scalars) ** 2 * symbols / bandwidth_hz
