"""The random cell that the solvers are measured on."""

import numpy as np

from optim import AirCompProblem

# Of points uniform in the ring between these radii and 1.
NEAREST = 0.1
MEDIAN_DISTANCE = np.sqrt((NEAREST**2 + 1) / 2)


def cell(
    rng: np.random.Generator, batch: int, devices: int, antennas: int, snr_db: float, spread: bool = True
) -> AirCompProblem:
    """Rayleigh fading, data sizes uniform in [0.5, 1.5], unit power; SNR of the median device per antenna.

    With `spread`, devices lie uniformly in a ring and gains fall with the cube of the distance, relative to
    the median; without it all path gains are equal, which makes the relaxation looser.
    """
    fading = rng.standard_normal((2, batch, devices, antennas)) / np.sqrt(2)
    channel = fading[0] + 1j * fading[1]
    distance = np.sqrt(rng.uniform(NEAREST**2, 1.0, (batch, devices)))
    if spread:
        channel = channel * ((distance / MEDIAN_DISTANCE) ** -1.5)[..., None]
    sizes = rng.uniform(0.5, 1.5, (batch, devices))
    targets = sizes / sizes.sum(axis=-1, keepdims=True)
    return AirCompProblem(channel, targets, 1.0, 10 ** (-snr_db / 10))


def mixed_cells(seed: int, batch: int, devices: int, antennas: int, spread: bool = True) -> AirCompProblem:
    """Cells whose SNR goes through -10, 0, 10, 20 and 30 dB in turn."""
    problem = cell(np.random.default_rng(seed), batch, devices, antennas, 0.0, spread)
    snr_db = 10.0 * (np.arange(batch) % 5 - 1)
    return problem.replaced(noise_power_w=10 ** (-snr_db / 10))
