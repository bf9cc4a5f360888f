"""What the scalar form of the air saves against the antenna level: one round's superposition."""

import statistics
import time

import numpy as np
import pytest
import torch

from airsim.radio import AntennaLevelAir, ScalarGainAir

pytestmark = pytest.mark.benchmark


def median_s(work, repeats=7):
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


@pytest.mark.parametrize(("devices", "antennas", "symbols"), [(20, 8, 1_000), (20, 64, 100_000)])
def test_scalar_gains_against_antennas(devices, antennas, symbols):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return torch.from_numpy(
            (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
        )

    channel, scalars, beamformer, sent = (
        draw(devices, antennas),
        draw(devices),
        draw(antennas),
        draw(devices, symbols),
    )
    gains = (channel @ beamformer.conj()) * scalars
    airs = (
        AntennaLevelAir(channel, scalars, beamformer, 0.1),
        ScalarGainAir(gains, float(0.1**0.5 * beamformer.abs().square().sum().sqrt())),
    )

    def one_round(air):
        received = air.receive(air.superpose(sent, range(devices)))
        return received + air.receiver_noise(symbols, np.random.default_rng(1))

    antenna_s, scalar_s = (median_s(lambda air=air: one_round(air)) for air in airs)
    print(f"K={devices} N={antennas} S={symbols}: antenna level / scalar gains = {antenna_s / scalar_s:.1f}")
