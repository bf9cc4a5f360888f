"""From payloads to symbols, through the air, and back (torch); and what it costs in seconds and joules."""

from airsim.radio.air import AbstractAir, AntennaLevelAir, ScalarGainAir
from airsim.radio.aircomp import beamform, denormalise, normalise, pack, precode, superpose
from airsim.radio.airtime import num_symbols, transfer_s, uplink_s
from airsim.radio.energy import transmit_energy_j
from airsim.radio.normalisation import (
    AbstractNormalisation,
    Common,
    PayloadStatistics,
    PerDevice,
    RootMeanSquare,
)

__all__ = [
    "AbstractAir",
    "AbstractNormalisation",
    "AntennaLevelAir",
    "Common",
    "PayloadStatistics",
    "PerDevice",
    "RootMeanSquare",
    "ScalarGainAir",
    "beamform",
    "denormalise",
    "normalise",
    "num_symbols",
    "pack",
    "precode",
    "superpose",
    "transfer_s",
    "transmit_energy_j",
    "uplink_s",
]
