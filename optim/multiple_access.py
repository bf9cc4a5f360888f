r"""Digital multiple access of independent messages: its rate region, and the least distortion in it.

Rates, in bits per channel use, are those with

.. math:: \sum_{k \in S} r_k \le C(S) = \log_2 \det\Big(I + \sum_{k \in S} a_k^H a_k\Big)
          \quad\text{for all subsets } S

C is submodular, so separable convex functions are minimised exactly by decomposition: drop all limits but
that on the sum, find the subset that violates its limit most, and solve that subset and the rest apart
[Groenevelt91].
"""

import numpy as np
from jaxtyping import Complex, Float, Int

from optim.normal_form import adjoint


def subset_table(num_devices: int) -> Int[np.ndarray, "subsets K"]:
    """Row S says which devices are in subset S; its bits are the number of the row."""
    return (np.arange(2**num_devices)[:, None] >> np.arange(num_devices)) & 1


def capacities(rows: Complex[np.ndarray, "K n"]) -> Float[np.ndarray, "subsets"]:
    """``C(S)`` of every subset, in bits per channel use."""
    dimension = rows.shape[-1]
    powers = adjoint(rows[:, None, :]) @ rows[:, None, :]  # K n n
    members = subset_table(len(rows)).astype(np.complex128)
    received = (members @ powers.reshape(len(rows), -1)).reshape(-1, dimension, dimension)
    return np.linalg.slogdet(np.eye(dimension) + received)[1] / np.log(2)


def best_rates(
    capacity: Float[np.ndarray, "subsets"], targets: Float[np.ndarray, "K"]
) -> Float[np.ndarray, "K"]:
    r"""The minimiser of :math:`\sum_k \omega_k^2 2^{-r_k}` over the rate region, for positive targets."""
    rates = np.zeros(len(targets))
    _decompose(capacity, 2 * np.log2(targets), rates, (list(range(len(targets))), 0))
    return rates


def _decompose(
    capacity: Float[np.ndarray, "subsets"],
    levels: Float[np.ndarray, "K"],
    rates: Float[np.ndarray, "K"],
    part: tuple[list[int], int],
) -> None:
    """Fill in the rates of the `devices` of a part, whose limits count beyond those of the subset `given`."""
    devices, given = part
    if not devices:
        return
    members = subset_table(len(devices))
    limits = capacity[members @ (1 << np.array(devices)) + given] - capacity[given]
    tried = levels[devices] + (limits[-1] - levels[devices].sum()) / len(devices)
    excess = members @ tried - limits
    worst = int(np.argmax(excess))
    if excess[worst] <= 1e-12 * (1 + np.abs(tried).sum()):
        rates[devices] = tried
        return
    inside = [device for device, inside in zip(devices, members[worst], strict=True) if inside]
    outside = [device for device in devices if device not in inside]
    _decompose(capacity, levels, rates, (inside, given))
    _decompose(capacity, levels, rates, (outside, given + sum(1 << device for device in inside)))
