"""A stream's whitened rows in coordinates that only gains and targets decide.

Renaming devices, rotating a receiver's antennas or turning phases therefore changes no design.
"""

import numpy as np
from jaxtyping import Complex, Float

from optim.combined.problem import CombinedProblem
from optim.normal_form import audible, canonical_coordinates, canonical_order


def canonical_rows(
    block: CombinedProblem,
    stream: int,
    targets: Float[np.ndarray, "_"],
    reference_w: Float[np.ndarray, "K"],
) -> tuple[Complex[np.ndarray, "_ n"], Complex[np.ndarray, "N n"]]:
    """Rows ``sqrt(kappa P_k) h_k^H / sigma`` at reference power, and the basis that leads back to antennas.

    Devices stand in the problem's own order; under task reuse those that only interfere are among them.
    """
    rows = _whitened_rows(block, stream, reference_w)
    wanted = targets
    if stream and block.reuse:  # those who only interfere have no target here
        wanted = np.zeros(len(rows))
        wanted[block.members[stream - 1]] = targets
    order = canonical_order(rows[None, :, None], wanted[None])[0]
    ordered, basis = canonical_coordinates(rows[None, order], wanted[None, order])
    turned = np.empty_like(ordered[0])
    turned[order] = ordered[0]
    return turned, basis[0]


def _whitened_rows(
    block: CombinedProblem, stream: int, reference_w: Float[np.ndarray, "K"]
) -> Complex[np.ndarray, "_ _"]:
    channel = block.edge_channels[stream - 1] if stream else block.base_station_channel
    devices = slice(None) if stream == 0 or block.reuse else block.members[stream - 1]
    # kappa |c - w|^2 + sigma^2 |m|^2 is kappa times the plain problem with sigma^2 / kappa.
    whitened = channel.conj() / np.sqrt(block.noise_power_w[stream] / block.misalignment_weight)
    return audible(whitened * np.sqrt(reference_w[devices])[:, None])
