"""Problems to test on: Rayleigh channels, one number per keyword."""

from dataclasses import replace

import numpy as np

from optim import AirCompProblem, CombinedProblem, ErrorCovariance


def rayleigh(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Independent entries of unit power."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def receiver(seed=0, devices=6, antennas=3, snr_db=10.0, batch=()) -> AirCompProblem:
    """One receiver (or a batch), unequal targets and powers."""
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0.5, 1.5, devices)
    return AirCompProblem(
        channel=rayleigh(rng, *batch, devices, antennas),
        target_gains=targets / targets.sum(),
        power_budget_w=rng.uniform(0.5, 1.5, devices),
        noise_power_w=10 ** (-snr_db / 10),
    )


def combined(
    seed=0, tasks=(3, 2), antennas=(4, 2), snr_db=10.0, peak=4.0, ranks=(6, 2), std=None
) -> CombinedProblem:
    """A base station with `antennas[0]`, edge servers with `antennas[1]`, `tasks[n]` devices in task n."""
    rng = np.random.default_rng(seed)
    devices = sum(tasks)
    order = rng.permutation(devices)
    members = np.split(order, np.cumsum(tasks)[:-1])
    return CombinedProblem(
        base_station_channel=rayleigh(rng, devices, antennas[0]),
        edge_channels=tuple(rayleigh(rng, size, antennas[1]) for size in tasks),
        members=tuple(members),
        data_sizes=rng.uniform(0.5, 1.5, devices),
        rank_shared=ranks[0],
        rank_personal=ranks[1],
        average_power_w=rng.uniform(0.5, 1.5, devices),
        peak_power_w=peak * np.ones(devices),
        noise_power_w=10 ** (-snr_db / 10) * rng.uniform(0.5, 2.0, 1 + len(tasks)),
        payload_std=std,
    )


def correlation(rng, *shape) -> np.ndarray:
    """Random correlation matrices, one for each leading index."""
    root = rayleigh(rng, *shape, shape[-1])
    return root @ np.swapaxes(root.conj(), -1, -2) / shape[-1]


def estimated(
    seed=0, devices=6, antennas=3, snr_db=20.0, scale=0.02, batch=(), weight=1.0, full=False
) -> AirCompProblem:
    """As :func:`receiver`, but estimated: errors of unequal size and one shape, or each of its own."""
    rng = np.random.default_rng(1000 + seed)
    shape = correlation(rng, *batch, devices, antennas) if full else correlation(rng, antennas)
    scales = scale * rng.uniform(0.5, 1.5, (*batch, devices))
    problem = receiver(seed, devices, antennas, snr_db, batch)
    return problem.replaced(error_covariance=ErrorCovariance(scales, shape), misalignment_weight=weight)


def reusing(seed=0, tasks=(3, 2), antennas=(4, 2), snr_db=10.0, cross_db=-10.0, **fields) -> CombinedProblem:
    """All tasks on one channel; other tasks' devices arrive at an edge server with `cross_db`."""
    rng = np.random.default_rng(seed)
    devices = sum(tasks)
    members = np.split(rng.permutation(devices), np.cumsum(tasks)[:-1])
    gains = [np.where(np.isin(np.arange(devices), own), 1.0, 10 ** (cross_db / 20)) for own in members]
    return CombinedProblem(
        base_station_channel=rayleigh(rng, devices, antennas[0]),
        edge_channels=tuple(gain[:, None] * rayleigh(rng, devices, antennas[1]) for gain in gains),
        members=tuple(members),
        data_sizes=rng.uniform(0.5, 1.5, devices),
        shares=(0.6, 0.4),
        average_power_w=rng.uniform(0.5, 1.5, devices),
        peak_power_w=4.0,
        noise_power_w=10 ** (-snr_db / 10) * rng.uniform(0.5, 2.0, 1 + len(tasks)),
        task_access="reuse",
        **fields,
    )


def faded(problem: CombinedProblem, seed: int) -> CombinedProblem:
    """The same problem in another coherence block."""
    rng = np.random.default_rng(seed)
    return replace(
        problem,
        base_station_channel=rayleigh(rng, *problem.base_station_channel.shape),
        edge_channels=tuple(rayleigh(rng, *channel.shape) for channel in problem.edge_channels),
    )
