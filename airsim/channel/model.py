"""Block-fading links from a set of devices to one receiver."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from airsim.channel.csi import ChannelState
from airsim.channel.fading import AbstractFading
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class ChannelModel:
    """``h_k = sqrt(path_gain_k) g_k`` with a fresh unit-power fading draw g_k in each block."""

    receiver_index: int
    num_antennas: int
    path_gain: Float[np.ndarray, "K"]
    angle_rad: Float[np.ndarray, "K"]
    fading: AbstractFading
    streams: RandomStreams
    rows: tuple[int, ...] | None = None  # the devices that are looked at; all of them unless given

    def among(self, rows: Sequence[int]) -> "ChannelModel":
        """The links of some devices, by place: the very draws that they have beside the others."""
        return replace(self, rows=tuple(rows))

    def realise(self, block: int) -> ChannelState:
        """The state of one block: a function of the block's number, not of earlier calls."""
        rng = self.streams.generator("fading", self.receiver_index, block)
        small_scale = self.fading.draw(self.angle_rad, self.num_antennas, rng)
        response = np.sqrt(self.path_gain)[:, None] * small_scale
        if self.rows is None:
            return ChannelState(response=response, estimate=response, path_gain=self.path_gain)
        own = response[list(self.rows)]
        return ChannelState(response=own, estimate=own, path_gain=self.path_gain[list(self.rows)])
