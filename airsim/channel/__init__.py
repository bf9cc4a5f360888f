"""Where the nodes stand and what the air does to their signals (NumPy)."""

from airsim.channel.csi import ChannelState
from airsim.channel.fading import AbstractFading, Rayleigh, Rician
from airsim.channel.model import ChannelModel
from airsim.channel.pathloss import LogDistance, thermal_noise_w
from airsim.channel.topology import DiscPlacement, Topology, angles_rad, distances_m, place_network

__all__ = [
    "AbstractFading",
    "ChannelModel",
    "ChannelState",
    "DiscPlacement",
    "LogDistance",
    "Rayleigh",
    "Rician",
    "Topology",
    "angles_rad",
    "distances_m",
    "place_network",
    "thermal_noise_w",
]
