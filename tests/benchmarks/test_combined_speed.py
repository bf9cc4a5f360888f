"""Certified designs of the coupled problem: gap, milliseconds, and the convex relaxation's time beside them.

Shape checks slow it down; without them: ``pytest -o addopts="" -m benchmark -s`` and this file.
"""

import time

import numpy as np
import pytest

import optim
from tests.benchmarks.combined_cells import combined_cell

SEEDS = range(40)
REFERENCE_SEEDS = range(3)
SNRS_DB = (0.0, 10.0, 20.0)


def timed(problem, method, **options):
    start = time.perf_counter()
    solution = optim.solve(problem, method, **options)
    return solution, 1e3 * (time.perf_counter() - start)


@pytest.mark.benchmark
@pytest.mark.parametrize("spread", [True, False], ids=["cell", "equal"])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25)], ids=["half", "6to2"])
@pytest.mark.parametrize("devices, tasks", [(10, 2), (20, 4)])
@pytest.mark.parametrize("antennas", [(4, 4), (8, 4)])
def test_certified_designs(capsys, devices, tasks, antennas, shares, spread):
    for snr_db in SNRS_DB:
        problems = [combined_cell(seed, devices, tasks, antennas, snr_db, shares, spread) for seed in SEEDS]
        runs = [timed(problem, "auto") for problem in problems]
        gaps = 100 * np.array([solution.gap for solution, _ in runs])
        ms = np.array([elapsed for _, elapsed in runs])
        references = [timed(problems[seed], "sdr", starts=1) for seed in REFERENCE_SEEDS]
        slower = np.median([elapsed for _, elapsed in references]) / np.median(ms)
        with capsys.disabled():
            print(
                f"\n{devices}/{tasks} {antennas} {snr_db:.0f} dB: gap median {np.median(gaps):.2f} % max "
                f"{gaps.max():.2f} % within 3 % {np.mean(gaps <= 3):.0%}; median {np.median(ms):.0f} ms max "
                f"{ms.max():.0f} ms; sdr {slower:.0f}x slower",
                end="",
            )
        for problem, (solution, _) in zip(problems, runs, strict=True):
            solution.verify(problem)
