"""How many random cells are proved optimal to 0.2 per cent, and how fast."""

import time

import numpy as np
import pytest

import optim
from optim import Status
from tests.benchmarks.cells import cell

pytestmark = pytest.mark.benchmark

INSTANCES = 20
SNRS_DB = (-10, 0, 10, 20, 30)
LIMITS = {"gap": 2e-3, "time_limit_s": 2.5}


@pytest.mark.parametrize(("devices", "antennas"), [(6, 3), (8, 4), (10, 4)])
@pytest.mark.parametrize("spread", [True, False], ids=["cell", "homog"])
def test_proofs_one_after_another_and_together(devices, antennas, spread):
    spent_s, together_s, closed, near = [], 0.0, 0, 0
    for snr_db in SNRS_DB:
        problem = cell(np.random.default_rng(snr_db + 100), INSTANCES, devices, antennas, snr_db, spread)
        for index in range(INSTANCES):
            start_s = time.perf_counter()
            solution = optim.solve(problem.instance(index), "branch-and-bound", **LIMITS)
            spent_s.append(time.perf_counter() - start_s)
            closed += solution.status is Status.PROVED_OPTIMAL
        start_s = time.perf_counter()
        best = optim.solve(problem, "branch-and-bound", **LIMITS)
        together_s += time.perf_counter() - start_s
        near += int((optim.solve(problem, "sqp", starts=32).mse <= 1.01 * best.mse).sum())
    count = len(spent_s)
    print(
        f"K={devices} N={antennas} {'cell' if spread else 'homog'}: {closed}/{count} proved to 0.2 %, "
        f"median {1e3 * np.median(spent_s):.0f} ms, longest {max(spent_s):.2f} s, "
        f"in one batch {1e3 * together_s / count:.0f} ms each; 32 starts within 1 % on {near}/{count}"
    )
