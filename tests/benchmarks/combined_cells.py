"""The random cell of :mod:`tests.benchmarks.cells` for every link of a coupled problem."""

import numpy as np

from optim import CombinedProblem

# Of points uniform in the ring between these radii and 1.
NEAREST = 0.1
MEDIAN_DISTANCE = np.sqrt((NEAREST**2 + 1) / 2)


def combined_cell(
    seed: int,
    devices: int,
    tasks: int,
    antennas: tuple[int, int],
    snr_db: float,
    shares: tuple[float, float] = (0.5, 0.5),
    spread: bool = True,
) -> CombinedProblem:
    """Equal tasks, average power 1, peak 6 dB above; every link has its own distance, or all have none."""
    rng = np.random.default_rng(seed)

    def link(rows: int, columns: int) -> np.ndarray:
        fading = rng.standard_normal((2, rows, columns)) / np.sqrt(2)
        distance = np.sqrt(rng.uniform(NEAREST**2, 1.0, rows))
        gain = (distance / MEDIAN_DISTANCE) ** -1.5 if spread else np.ones(rows)
        return gain[:, None] * (fading[0] + 1j * fading[1])

    members = np.split(np.arange(devices), tasks)
    return CombinedProblem(
        base_station_channel=link(devices, antennas[0]),
        edge_channels=[link(len(task), antennas[1]) for task in members],
        members=members,
        data_sizes=rng.uniform(0.5, 1.5, devices),
        shares=shares,
        average_power_w=1.0,
        peak_power_w=4.0,
        noise_power_w=10 ** (-snr_db / 10),
    )
