"""A round that lasts several coherence blocks, with one energy budget per device over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from optim import checks
from optim.combined.problem import CombinedProblem
from optim.design import CombinedDesign, TransceiverDesign
from optim.problem import AirCompProblem

# All but the channels and the noise: what must not change from block to block.
_COMMON = ("members", "data_sizes", "shares", "average_power_w", "peak_power_w", "payload_std")


@dataclass(frozen=True, eq=False)
class MultiBlockDesign:
    """One design per coherence block."""

    blocks: tuple[CombinedDesign, ...]

    @property
    def streams(self) -> tuple[TransceiverDesign, ...]:
        """Block by block: base station first, then the edge servers."""
        return tuple(stream for block in self.blocks for stream in block.streams)


@dataclass(frozen=True, eq=False)
class MultiBlockProblem:
    r"""The same devices, tasks and payloads over `T` blocks, each with channels of its own:

    .. math:: \min\ \sum_t \tau_t \Pi_t \quad\text{subject to}\quad
              \sum_t \tau_t \big( \alpha_s |b_{kt}^s|^2 + \alpha_p |b_{kt}^p|^2 \big) \le \bar P_k,\
              |b_{kt}^\bullet|^2 \le P_k^{\rm peak}

    A device saves energy in a fade and spends it in a good block. All channels are known before the first
    block, so this is what an uplink over several subcarriers can do, and a bound for one over time. One
    receiver alone is the case ``shares=(1, 0)``.

    Args:
        blocks: problems that differ in channels and noise only.
        block_shares: tau, the length of each block in any unit (made to sum to 1); without it all are equal.
    """

    blocks: tuple[CombinedProblem, ...] | Any
    block_shares: tuple[float, ...] | Any = None

    def __post_init__(self) -> None:
        blocks = tuple(self.blocks)
        if not blocks:
            raise ValueError("blocks is empty: give at least one CombinedProblem")
        for index, block in enumerate(blocks):
            _check_same(index, block, blocks[0])
        object.__setattr__(self, "blocks", blocks)
        lengths = np.ones(len(blocks)) if self.block_shares is None else self.block_shares
        object.__setattr__(self, "block_shares", _normalised(lengths, len(blocks)))

    def joined(self, designs: Sequence[CombinedDesign]) -> MultiBlockDesign:
        """The design of the whole problem from one per block."""
        return MultiBlockDesign(tuple(designs))

    @property
    def num_devices(self) -> int:
        """K."""
        return self.blocks[0].num_devices

    @property
    def average_power_w(self) -> Float[np.ndarray, "K"]:
        """Average over all blocks."""
        return self.blocks[0].average_power_w

    @property
    def peak_power_w(self) -> Float[np.ndarray, "K"]:
        """Limit in every block."""
        return self.blocks[0].peak_power_w

    @property
    def misalignment_weight(self) -> float:
        """kappa."""
        return self.blocks[0].misalignment_weight

    @property
    def reuse(self) -> bool:
        """Whether all tasks share one channel."""
        return self.blocks[0].reuse

    @cached_property
    def stream_weights(self) -> Float[np.ndarray, "streams"]:
        """Weight of each stream's error, block by block, the base station first; they sum to 1."""
        pairs = zip(self.block_shares, self.blocks, strict=True)
        return np.concatenate([share * block.stream_weights for share, block in pairs])

    @cached_property
    def streams_at_peak(self) -> tuple[AirCompProblem, ...]:
        """Every stream alone under its peak powers."""
        return tuple(stream for block in self.blocks for stream in block.streams_at_peak)


def _check_same(index: int, block: Any, first: CombinedProblem) -> None:
    if not isinstance(block, CombinedProblem):
        raise ValueError(f"blocks[{index}] is a {type(block).__name__}: give a CombinedProblem")
    fields = (*_COMMON, "misalignment_weight", "task_access")
    for field in fields:
        if not _equal(getattr(block, field), getattr(first, field)):
            raise ValueError(
                f"blocks[{index}].{field} differs from blocks[0].{field}: only channels and noise may change "
                "from block to block"
            )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(np.array_equal(one, other))


def _normalised(lengths: Any, num_blocks: int) -> tuple[float, ...]:
    array = checks.real_array("block_shares", lengths)
    if array.shape != (num_blocks,):
        raise ValueError(f"block_shares has shape {array.shape}: give one length per block, {num_blocks}")
    checks.positive("block_shares", array, "leave out a block of no length")
    return tuple(float(share) for share in array / array.sum())
