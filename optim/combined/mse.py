"""Errors of any combined design, whatever it was designed for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex, Float, Shaped

from optim import mse
from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
from optim.combined.problem import CombinedProblem
from optim.design import CombinedDesign

AnyProblem = CombinedProblem | MultiBlockProblem
AnyDesign = CombinedDesign | MultiBlockDesign


def require_fit(problem: AnyProblem, design: AnyDesign) -> None:
    """Raise `ValueError` for a design of other sizes, or one that is not finite."""
    streams = problem.streams_at_peak
    if len(design.streams) != len(streams):
        raise ValueError(
            f"design has {len(design.streams)} streams, but the problem {len(streams)}: give a design of as "
            "many edge servers and blocks"
        )
    for index, (stream, part) in enumerate(zip(streams, design.streams, strict=True)):
        part.require_fit(stream.stacked_channel.shape, f"design.streams[{index}]")


def stream_mse(problem: AnyProblem, design: AnyDesign) -> Float[np.ndarray, "streams"]:
    """Error of each stream, block by block, the base station first."""
    return stream_misalignment(problem, design) + stream_noise(problem, design)


def stream_misalignment(problem: AnyProblem, design: AnyDesign) -> Float[np.ndarray, "streams"]:
    r"""Signal part of each stream's error; under task reuse with what other tasks' devices add:

    .. math:: \sum_{k \in \mathcal K_n} |m_n^H h_{nk} b_k - \omega_{nk}|^2
              + \sum_{j \notin \mathcal K_n} |m_n^H h_{nj} b_j^p|^2
    """
    pairs = zip(problem.streams_at_peak, design.streams, strict=True)
    own = np.array([float(mse.misalignment(stream, part)) for stream, part in pairs])
    return own + stream_interference(problem, design) if problem.reuse else own


def stream_noise(problem: AnyProblem, design: AnyDesign) -> Float[np.ndarray, "streams"]:
    """Amplified receiver noise of each stream."""
    pairs = zip(problem.streams_at_peak, design.streams, strict=True)
    return np.array([float(mse.noise(stream, part)) for stream, part in pairs])


def stream_interference(problem: AnyProblem, design: AnyDesign) -> Float[np.ndarray, "streams"]:
    """What devices of other tasks add at each receiver; nothing while tasks are orthogonal."""
    designs = design.blocks if isinstance(design, MultiBlockDesign) else (design,)
    parts = [_block_interference(*pair) for pair in zip(problem.blocks, designs, strict=True)]
    return np.concatenate(parts)


def pi(problem: AnyProblem, design: AnyDesign) -> float:
    r""":math:`\Pi = \sum_i W_i \mathrm{MSE}_i`, weighted by payload and data [Sun, Theorem 3, Eq. 41]."""
    return float(problem.stream_weights @ stream_mse(problem, design))


def objective(problem: AnyProblem, design: AnyDesign) -> float:
    """What a design minimises: Pi with misalignment times `misalignment_weight`."""
    weighted = problem.misalignment_weight * stream_misalignment(problem, design)
    return float(problem.stream_weights @ (weighted + stream_noise(problem, design)))


def correlated_stream_mse(
    problem: CombinedProblem, design: CombinedDesign, correlations: Sequence[Shaped[np.ndarray, "_ _"]]
) -> Float[np.ndarray, "E1"]:
    """Error of each stream for symbols with the given correlation matrices, one per stream.

    Raises:
        ValueError: under task reuse, where the symbols of other tasks would be needed as well.
    """
    if problem.reuse:
        raise ValueError('task_access = "reuse": correlated errors are known for orthogonal tasks only')
    parts = zip(problem.streams_at_peak, design.streams, correlations, strict=True)
    return np.array([float(mse.correlated_mse(*part)) for part in parts])


def _block_interference(problem: CombinedProblem, design: CombinedDesign) -> Float[np.ndarray, "E1"]:
    added = np.zeros(1 + problem.num_edge_servers)
    if not problem.reuse:
        return added
    sent = personal_scalars(problem, design)
    for task, (channel, members) in enumerate(zip(problem.edge_channels, problem.members, strict=True)):
        received = (channel @ design.edge_servers[task].receive_beamformer.conj()) * sent
        received[members] = 0
        added[1 + task] = (np.abs(received) ** 2).sum()
    return added


def personal_scalars(problem: CombinedProblem, design: CombinedDesign) -> Complex[np.ndarray, "K"]:
    """What each device multiplies by towards its edge server, device by device."""
    scalars = np.zeros(problem.num_devices, dtype=np.complex128)
    for members, part in zip(problem.members, design.edge_servers, strict=True):
        scalars[members] = part.transmit_scalars
    return scalars
