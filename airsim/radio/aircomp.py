r"""The over-the-air sum in pure functions, in the order of the block diagram.

    normalise (and pack) -> precode -> superpose -> beamform -> denormalise

Real payload entries travel two to a complex symbol, :math:`s = (x_1 + j x_2) / \sqrt2`, so that unit
variance per entry is unit power per symbol.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def normalise(
    payload: Float[Tensor, "K D"], offset: Float[Tensor, "K"], scale: Float[Tensor, "K"]
) -> Complex[Tensor, "K S"]:
    """Symbols ``(g_k - offset_k) / scale_k``, packed in pairs; a device of scale zero sends zeros."""
    safe = torch.where(scale > 0, scale, torch.inf)
    return pack((payload - offset[:, None]) / safe[:, None])


def pack(entries: Float[Tensor, "*rows D"]) -> Complex[Tensor, "*rows S"]:
    """Two entries to a symbol, the last with a zero where their number is odd."""
    if entries.shape[-1] % 2:
        entries = torch.nn.functional.pad(entries, (0, 1))
    pairs = entries.unflatten(-1, (-1, 2))  # D -> S 2
    return torch.view_as_complex(pairs.contiguous()) / math.sqrt(2)


def precode(
    symbols: Complex[Tensor, "K S"], transmit_scalars: Complex[Tensor, "K"]
) -> Complex[Tensor, "K S"]:
    """What each device radiates: ``b_k s_k``."""
    return transmit_scalars[:, None] * symbols


def superpose(transmitted: Complex[Tensor, "K S"], channel: Complex[Tensor, "K N"]) -> Complex[Tensor, "N S"]:
    """What the antennas hear of these devices together: ``sum_k h_k b_k s_k``, noise not yet added."""
    return channel.mT @ transmitted


def beamform(
    received: Complex[Tensor, "N S"], receive_beamformer: Complex[Tensor, "N"]
) -> Complex[Tensor, "S"]:
    """Combine the antennas: ``m^H y``; the denoising factor is part of m."""
    return receive_beamformer.conj() @ received


def denormalise(
    symbols: Complex[Tensor, "S"], reference_std: float, offset: float, num_entries: int
) -> Float[Tensor, "D"]:
    """The aggregate ``sigma_t x + sum_k w_k mu_k``, unpacked and freed of its padding."""
    entries = torch.view_as_real(symbols).reshape(-1)[:num_entries] * math.sqrt(2)
    return reference_std * entries + offset
