"""Designs and bounds of one receiver against the usual cvxpy script, and how many a second.

Times are per instance, medians, wall and processor time; `solver` is what the convex solver takes without
cvxpy's modelling. Shape checks would slow the package six- to fifteenfold: `make bench` runs without them.
"""

import resource

import numpy as np
import pytest

import optim
from tests.benchmarks import usual_script
from tests.benchmarks.cells import cell, mixed_cells
from tests.benchmarks.clocks import clocked, median_spent

pytestmark = pytest.mark.benchmark

BATCH = 256
REFERENCES = {(10, 4): 10, (20, 8): 10, (50, 16): 5}
WORSE = 1e-4


def referenced(work, problem, count):
    """Results of the usual script on the first instances, median times and median time of its solver."""
    runs = [clocked(lambda index=index: work(problem.instance(index))) for index in range(count)]
    outcomes = [outcome for outcome, _ in runs]
    spent = median_spent([spent for _, spent in runs])
    return [o.result for o in outcomes], spent, float(np.median([o.solver_s for o in outcomes]))


def ratios(theirs, solver_s, ours):
    return (
        f"{theirs.wall_s / ours.wall_s:.0f}x (cpu {theirs.cpu_s / ours.cpu_s:.0f}x, solver alone "
        f"{solver_s / ours.wall_s:.0f}x): {1e3 * theirs.wall_s:.1f} ms, solver {1e3 * solver_s:.1f} ms, "
        f"against {1e3 * ours.wall_s:.3f} ms (cpu {1e3 * ours.cpu_s:.3f})"
    )


@pytest.mark.parametrize("size", [(10, 4), (20, 8)], ids=str)
def test_the_bound_against_the_joint_relaxation(size):
    problem = mixed_cells(1, BATCH, *size)
    bound, spent = clocked(lambda: optim.lower_bound(problem, tolerance=1e-3), repeats=5)
    relaxation = lambda instance: usual_script.joint_relaxation(*usual_script.normalised(instance))  # noqa: E731
    values, theirs, solver_s = referenced(relaxation, problem, REFERENCES[size])
    relative = bound[: len(values)] / (np.array(values) * (problem.target_gains[: len(values)] ** 2).sum(-1))
    print(
        f"\nbound {size}: {ratios(theirs, solver_s, spent.per(BATCH))}; "
        f"ours / theirs {relative.min():.5f} to {relative.max():.5f}"
    )


@pytest.mark.parametrize("size", REFERENCES, ids=str)
@pytest.mark.parametrize("spread", [True, False], ids=["cell", "homog"])
def test_design_and_certificate_against_relaxation_and_successive_approximation(size, spread):
    problem, rng = mixed_cells(2, BATCH, *size, spread), np.random.default_rng(0)

    def script(instance):
        return usual_script.uniform_forcing(*usual_script.normalised(instance), rng)

    beams, theirs, solver_s = referenced(script, problem, REFERENCES[size])
    errors = [
        usual_script.error(*usual_script.normalised(problem.instance(index)), beam)
        for index, beam in enumerate(beams)
    ]
    for starts in (1, 8):
        solution, spent = clocked(
            lambda starts=starts: optim.solve(problem, starts=starts, bound_tolerance=1e-2),
            repeats=3 if starts == 1 else 1,
        )
        silence = (problem.target_gains**2).sum(axis=-1)
        ours = (solution.mse / silence)[: len(errors)]
        worse = int((ours > np.array(errors) * (1 + WORSE)).sum())
        print(
            f"\ndesign {size} {'cell' if spread else 'homog'} {starts} starts: "
            f"{ratios(theirs, solver_s, spent.per(BATCH))}; {BATCH / spent.wall_s:.0f}/s "
            f"(cpu {BATCH / spent.cpu_s:.0f}/s), gap median {np.median(solution.gap):.2%}; worse on "
            f"{worse} of {len(errors)}, their error / ours median {np.median(errors / ours):.3f}, "
            f"largest {np.max(errors / ours):.2f}"
        )


@pytest.mark.parametrize("size", [(6, 3), (8, 4), (10, 4)], ids=str)
def test_many_starts_against_proved_optima(size):
    closed = near = one_start = 0
    for spread in (True, False):
        problem = mixed_cells(3, 50, *size, spread)
        best = optim.solve(problem, "branch-and-bound", gap=2e-3, time_limit_s=2.5)
        proved = best.gap <= 2e-3
        closed += int(proved.sum())
        near += int((proved & (optim.solve(problem, starts=32).mse <= 1.01 * best.mse)).sum())
        one_start += int((proved & (optim.solve(problem, starts=1).mse <= 1.01 * best.mse)).sum())
    print(f"\noptimum {size}: {closed}/100 proved; within 1 %: {near} by 32 starts, {one_start} by 1")


@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_a_thousand_devices(snr_db):
    problem = cell(np.random.default_rng(4), 1, 1000, 64, snr_db)
    for tolerance in (1e-2, np.inf):
        solution, spent = clocked(
            lambda tolerance=tolerance: optim.solve(problem, starts=1, bound_tolerance=tolerance)
        )
        print(
            f"\nK=1000 N=64 {snr_db:.0f} dB, bound to {tolerance}: {spent.wall_s:.2f} s "
            f"(cpu {spent.cpu_s:.2f}), gap {solution.gap[0]:.1%}, {solution.status[0].name}"
        )


@pytest.mark.parametrize("devices", [3_000, 100_000])
def test_many_devices_with_the_cheap_bound(devices):
    problem = cell(np.random.default_rng(5), 1, devices, 64, 10.0)
    solution, spent = clocked(lambda: optim.solve(problem, starts=1, bound_tolerance=1e-2))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\nK={devices} N=64: {spent.wall_s:.1f} s (cpu {spent.cpu_s:.1f}), cheap bound's gap "
        f"{solution.gap[0]:.0%}, peak of the process {peak_gib:.2f} GiB, {solution.status[0].name}"
    )


def test_one_antenna_by_the_hundred_thousand():
    problem = mixed_cells(6, 100_000, 5, 1)
    solution, spent = clocked(lambda: optim.solve(problem), repeats=3)
    print(
        f"\nK=5 N=1: {1e-6 * len(solution.mse) / spent.wall_s:.3f} million problems/s "
        f"(cpu {1e-6 * len(solution.mse) / spent.cpu_s:.3f}), largest gap {solution.gap.max():.1e}"
    )
