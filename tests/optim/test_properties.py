"""Laws of the default method over any scale, size and degeneracy: certified, honest, however it is written.

Found by hypothesis with fixed seeds. Beyond 60 dB (channel against noise, misalignment weight included) only
finiteness and certificates are claimed: there descents amplify rounding, and renamed problems agree to 1e-6
instead of 1e-10.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import optim
from optim import AirCompProblem, Status
from tests.optim.instances import rayleigh

KINDS = ("any", "some lost", "all lost", "collinear", "identical", "near and far", "no target", "no power")
many = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=20
)
few = settings(many, max_examples=8)


@dataclass(frozen=True)
class Case:
    """A recipe, so that a failure prints what made it."""

    seed: int
    kind: str
    devices: int
    antennas: int
    device_antennas: int
    amplitude: float
    strength_db: float
    weight: float

    def problem(self) -> AirCompProblem:
        rng = np.random.default_rng(self.seed)
        shape = (self.devices, self.antennas, self.device_antennas)
        channel = degenerate(self.kind, rayleigh(rng, *shape), rng)
        targets, power_w = rng.uniform(0.5, 1.5, (2, self.devices))
        kept = rng.random(self.devices) < 0.6
        return AirCompProblem(
            self.amplitude * (channel if self.device_antennas > 1 else channel[..., 0]),
            targets * kept if self.kind == "no target" else targets,
            power_w * kept if self.kind == "no power" else power_w,
            self.weight * self.amplitude**2 * 10 ** (-self.strength_db / 10),
            self.weight,
            device_antennas=self.device_antennas,
        )


def degenerate(kind, channel, rng):
    """The channel with what is wrong with it."""
    devices, antennas = channel.shape[:2]
    if kind == "some lost":
        return channel * (rng.random((devices, 1, 1)) < 0.6)
    if kind == "collinear":
        return channel[:, :1, :1] * rayleigh(rng, antennas, channel.shape[2])
    if kind == "near and far":
        return channel * 10 ** rng.uniform(-6, 6, (devices, 1, 1))
    if kind == "identical":
        return np.broadcast_to(channel[:1], channel.shape)
    return 0 * channel if kind == "all lost" else channel


def cases(strength_db=(-60.0, 60.0), device_antennas=(1,), kinds=KINDS):
    return st.builds(
        Case,
        seed=st.integers(0, 10_000),
        kind=st.sampled_from(kinds),
        devices=st.integers(1, 40),
        antennas=st.integers(1, 16),
        device_antennas=st.sampled_from(device_antennas),
        amplitude=st.floats(-14, 6).map(lambda exponent: 10.0**exponent),
        strength_db=st.floats(*strength_db),
        weight=st.sampled_from([1.0, 1e-2, 1e3]),
    )


def solved(problem, **effort):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = optim.solve(problem, starts=2, **effort)
    solution.verify(problem)
    return solution


def agree(problem, others, objective=1e-10, bound=1e-9):
    """All have one objective; the bound, which stops at a tolerance of its own, may differ a little more."""
    reference = solved(problem)
    for other in others:
        solution = solved(other)
        assert solution.objective == pytest.approx(reference.objective, rel=objective, abs=0)
        assert solution.lower_bound == pytest.approx(reference.lower_bound, rel=bound, abs=0)


@many
@given(case=cases(strength_db=(-250.0, 250.0), device_antennas=(1, 1, 2)))
def test_any_design_is_finite_feasible_and_certified(case):
    problem = case.problem()
    solution = solved(problem, max_iterations=30)
    assert np.isfinite(solution.design.receive_beamformer).all()
    assert np.isfinite(solution.design.transmit_scalars).all()
    silence = problem.misalignment_weight * (problem.target_gains**2).sum()
    assert 0 <= solution.lower_bound <= solution.objective * (1 + 1e-9)
    assert solution.objective <= silence * (1 + 1e-9)
    assert isinstance(solution.status, Status)
    arrives = ((np.abs(problem.channel) > 0).reshape(case.devices, -1).any(axis=1)) & (
        problem.target_gains * problem.power_budget_w > 0
    )
    assert (solution.status is Status.SILENT) == (not arrives.any())


@many
@given(case=cases(device_antennas=(1, 1, 2)))
def test_the_history_falls_to_the_objective(case):
    solution = solved(case.problem())
    assert (np.diff(solution.history) <= 0).all()
    assert solution.history[-1] == pytest.approx(solution.objective, rel=1e-6, abs=0)


@many
@given(case=cases())
def test_renaming_devices_rotating_antennas_and_phases_change_nothing(case):
    problem, rng = case.problem(), np.random.default_rng(case.seed + 1)
    order = rng.permutation(case.devices)
    turned = np.linalg.qr(rayleigh(rng, case.antennas, case.antennas))[0]
    phases = np.exp(2j * np.pi * rng.random((case.devices, 1)))
    renamed = problem.replaced(
        channel=problem.channel[order],
        target_gains=problem.target_gains[order],
        power_budget_w=problem.power_budget_w[order],
    )
    rotated, shifted = (
        problem.replaced(channel=c) for c in (problem.channel @ turned, problem.channel * phases)
    )
    agree(problem, [renamed, rotated, shifted])


@many
@given(case=cases(device_antennas=(2, 3)))
def test_rotating_a_devices_own_antennas_changes_nothing(case):
    problem, rng = case.problem(), np.random.default_rng(case.seed + 2)
    turned = np.linalg.qr(rayleigh(rng, case.devices, case.device_antennas, case.device_antennas))[0]
    agree(problem, [problem.replaced(channel=problem.channel @ turned)])


@many
@given(case=cases(device_antennas=(1, 1, 2)), shift_db=st.floats(-100, 100))
def test_only_the_ratio_of_channel_and_noise_matters_over_200_decibels(case, shift_db):
    problem, factor = case.problem(), 10 ** (shift_db / 20)
    scaled = problem.replaced(
        channel=problem.channel * factor, noise_power_w=problem.noise_power_w * factor**2
    )
    stronger = problem.replaced(
        channel=problem.channel * factor, power_budget_w=problem.power_budget_w / factor**2
    )
    agree(problem, [scaled, stronger])


@many
@given(case=cases(device_antennas=(1, 2)), factor_db=st.floats(-60, 60))
def test_errors_grow_with_the_square_of_the_targets(case, factor_db):
    problem, factor = case.problem(), 10 ** (factor_db / 20)
    reference, scaled = solved(problem), solved(problem.replaced(target_gains=problem.target_gains * factor))
    assert scaled.objective == pytest.approx(reference.objective * factor**2, rel=1e-10, abs=0)
    assert scaled.lower_bound == pytest.approx(reference.lower_bound * factor**2, rel=1e-9, abs=0)


def batch_of(members):
    fields = ("channel", "target_gains", "power_budget_w", "noise_power_w", "misalignment_weight")
    return AirCompProblem(*(np.stack([getattr(member, name) for member in members]) for name in fields))


@few
@given(case=cases(kinds=("any", "collinear", "identical", "near and far")), size=st.integers(2, 4))
def test_a_member_of_a_batch_is_solved_as_if_alone(case, size):
    members = [replace(case, seed=case.seed + i).problem() for i in range(size)]
    together = solved(batch_of(members))
    for index, member in enumerate(members):
        alone = solved(member)
        assert together.status[index] is alone.status
        assert together.objective[index] == pytest.approx(alone.objective, rel=1e-10, abs=0)
        assert together.lower_bound[index] == pytest.approx(alone.lower_bound, rel=1e-9, abs=0)


@few
@given(case=cases(kinds=("some lost", "no power", "no target")), size=st.integers(2, 4))
def test_members_that_lose_different_devices_keep_their_certificates(case, size):
    # Padding lets the bound stop elsewhere on its path, so starts are not the same: only the laws remain.
    members = [replace(case, seed=case.seed + i).problem() for i in range(size)]
    together = solved(batch_of(members))
    for index, member in enumerate(members):
        alone = solved(member)
        assert together.lower_bound[index] == pytest.approx(alone.lower_bound, rel=2e-3, abs=0)
        assert together.lower_bound[index] <= alone.objective * (1 + 1e-9)


@many
@given(case=cases(strength_db=(-20.0, 30.0), device_antennas=(2,), kinds=("any", "some lost", "identical")))
def test_a_second_device_antenna_never_hurts(case):
    double = case.problem()
    single = double.replaced(channel=double.channel[..., 0], device_antennas=1)
    assert solved(double).lower_bound <= solved(single).objective * (1 + 1e-9)


@many
@given(case=cases(device_antennas=(2,)))
def test_receive_rotations_change_nothing_for_devices_with_two_antennas(case):
    problem, rng = case.problem(), np.random.default_rng(case.seed + 1)
    turned = np.linalg.qr(rayleigh(rng, case.antennas, case.antennas))[0]
    order = rng.permutation(case.devices)
    renamed = problem.replaced(
        channel=problem.channel[order],
        target_gains=problem.target_gains[order],
        power_budget_w=problem.power_budget_w[order],
    )
    agree(problem, [problem.replaced(channel=turned @ problem.channel), renamed])


@many
@given(case=cases(device_antennas=(2,)))
def test_a_device_with_two_equal_antennas_is_one_with_twice_the_power(case):
    single = replace(case, device_antennas=1).problem()
    doubled = single.replaced(channel=np.stack([single.channel] * 2, axis=-1), device_antennas=2)
    stronger = single.replaced(power_budget_w=2 * single.power_budget_w)
    one, two = solved(stronger), solved(doubled)
    # Sampled starts differ, bounds do not.
    assert two.lower_bound == pytest.approx(one.lower_bound, rel=2e-3, abs=0)
    assert two.lower_bound <= one.objective * (1 + 1e-9)
    assert one.lower_bound <= two.objective * (1 + 1e-9)
