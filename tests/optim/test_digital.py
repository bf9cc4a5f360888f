"""Digital references: closed forms, simulation, and the order they must stand in."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem, digital
from optim.multiple_access import best_rates, capacities, subset_table
from optim.shares import distortion_level, equal_level_shares
from tests.optim.instances import combined, estimated, rayleigh, receiver

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("reference", [digital.ideal_digital, digital.ideal_digital_mac])
@pytest.mark.parametrize("snr_db", [-60.0, 0.0, 40.0])
def test_one_device_gains_nothing_from_ideal_digital_transmission(reference, snr_db):
    problem = receiver(seed=1, devices=1, antennas=3, snr_db=snr_db)
    snr = (np.abs(problem.channel) ** 2).sum() * problem.power_budget_w[0] / problem.noise_power_w
    assert reference(problem).mse == pytest.approx(problem.target_gains[0] ** 2 / (1 + snr), rel=1e-9)


@pytest.mark.parametrize("snr_db", [0.0, 30.0])
def test_over_orthogonal_channels_multiple_access_is_every_device_alone(snr_db):
    channel = np.diag([1.0, 2j, 0.5, 1e-3])
    problem = AirCompProblem(channel, [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], 10 ** (-snr_db / 10))
    snr = problem.power_budget_w * (np.abs(channel) ** 2).sum(axis=1) / problem.noise_power_w
    expected = (problem.target_gains**2 / (1 + snr)).sum()
    assert digital.ideal_digital_mac(problem).mse == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("snr_db", [-20.0, 5.0, 20.0, 50.0])
def test_multiple_access_is_never_worse_than_orthogonal_access(snr_db):
    for antennas in (1, 4):
        problem = receiver(seed=2, devices=5, antennas=antennas, snr_db=snr_db, batch=(8,))
        orthogonal, multiple = digital.ideal_digital(problem).mse, digital.ideal_digital_mac(problem).mse
        assert (multiple <= orthogonal * (1 + 1e-9)).all()


def test_several_antennas_make_orthogonal_access_a_weak_opponent():
    problem = receiver(seed=3, devices=4, antennas=4, snr_db=20.0)
    assert digital.ideal_digital_mac(problem).mse < 0.2 * digital.ideal_digital(problem).mse


def test_equal_devices_share_equally():
    problem = AirCompProblem(np.ones((4, 1)), 0.25, 1.0, 0.1)
    assert digital.ideal_digital(problem).mse == pytest.approx(4 / 16 * (1 + 4 / 0.1) ** -0.25, rel=1e-12)
    uses = digital.digital_oma(problem, bits=6, access="ofdma").channel_uses
    assert uses == pytest.approx(6 * 4 / np.log2(1 + 4 / 0.1), rel=1e-9)


@pytest.mark.parametrize("snr_db", [-30.0, 0.0, 30.0])
def test_no_other_shares_are_better(snr_db):
    problem = receiver(seed=4, devices=4, antennas=2, snr_db=snr_db)
    snr = (np.abs(problem.channel) ** 2).sum(axis=1) * problem.power_budget_w / problem.noise_power_w
    tried = RNG.dirichlet(np.ones(4), 20000)
    errors = (problem.target_gains**2 * (1 + snr / tried) ** -tried).sum(axis=1)
    best = digital.ideal_digital(problem).mse
    assert best <= errors.min() * (1 + 1e-12)
    assert errors.min() <= best * 1.02


def test_shares_of_extreme_links_sum_to_one():
    snr = 10 ** RNG.uniform(-12, 12, (50, 6))
    targets = RNG.uniform(0, 1, (50, 6)) * (RNG.random((50, 6)) < 0.7)
    shares = equal_level_shares(distortion_level(snr, targets), targets > 0)
    np.testing.assert_allclose(shares.sum(axis=1), (targets > 0).any(axis=1), atol=1e-12)
    assert (shares[targets == 0] == 0).all() and np.isfinite(shares).all()


@pytest.mark.parametrize("seed", range(3))
def test_rates_in_multiple_access_are_those_of_a_convex_solver(seed):
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    rows, targets = rayleigh(rng, 5, 2) * 10 ** rng.uniform(-1, 1, (5, 1)), rng.uniform(0.01, 1, 5)
    capacity = capacities(rows)
    rates = best_rates(capacity, targets)
    assert (rates >= -1e-12).all()
    assert (subset_table(5) @ rates <= capacity + 1e-9).all()
    free = cp.Variable(5, nonneg=True)
    error = cp.sum(cp.multiply(targets**2, cp.exp(-np.log(2) * free)))
    program = cp.Problem(cp.Minimize(error), [subset_table(5)[1:] @ free <= capacity[1:]])
    program.solve(solver=cp.CLARABEL)
    assert (targets**2 * 2.0**-rates).sum() == pytest.approx(program.value, rel=1e-6)


def rounded(values: np.ndarray, bits: int, clip: float, rounding: str, rng) -> np.ndarray:
    step = 2 * clip / (2**bits - 1)
    level = (np.clip(values, -clip, clip) + clip) / step
    dither = rng.random(values.shape) - 0.5
    if rounding == "subtractive-dither":
        level = np.round(level + dither) - dither
    else:
        level = np.round(level + (dither if rounding == "stochastic" else 0.0))
    return level * step - clip


@pytest.mark.parametrize("rounding", digital.ROUNDING)
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_quantised_numbers_have_the_error_of_the_formula(rounding, bits):
    rng = np.random.default_rng(5)
    values = rng.standard_normal(400_000)
    error = ((rounded(values, bits, 3.0, rounding, rng) - values) ** 2).mean()
    assert digital.quantisation_error(bits, 3.0, rounding) == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize("rounding", ["subtractive-dither", "stochastic"])
def test_dither_leaves_no_bias_at_any_payload(rounding):
    rng = np.random.default_rng(6)
    for value in (-1.3, 0.2, 2.0):
        values = np.full(200_000, value)
        assert rounded(values, 3, 3.0, rounding, rng).mean() == pytest.approx(value, abs=0.01)


def test_orthogonal_digital_transmission_costs_what_its_formulas_say():
    problem = receiver(seed=7, devices=5, antennas=3)
    snr = (np.abs(problem.channel) ** 2).sum(axis=1) * problem.power_budget_w / problem.noise_power_w
    reference = digital.digital_oma(problem, bits=6, clip=3.0, rounding="stochastic")
    error = digital.quantisation_error(6, 3.0, "stochastic")
    assert reference.mse == pytest.approx((problem.target_gains**2).sum() * error)
    assert reference.channel_uses == pytest.approx((6 / np.log2(1 + snr)).sum())
    tried = np.random.default_rng(8).dirichlet(np.ones(5), 20000)
    latency = (6 / (tried * np.log2(1 + snr / tried))).max(axis=1).min()
    uses = {a: digital.digital_oma(problem, bits=6, access=a).channel_uses for a in digital.USES}
    assert uses["ofdma"] <= latency <= 1.2 * uses["ofdma"]
    assert uses["uncoordinated"] <= uses["ofdma"] <= uses["tdma"]


def test_a_batch_of_references_is_each_of_them_alone():
    problem = receiver(seed=9, devices=4, antennas=2, batch=(2, 3))
    for reference in digital.REFERENCES.values():
        together = reference(problem).mse
        alone = [reference(problem.instance(index)).mse for index in range(6)]
        assert together.shape == (2, 3)
        np.testing.assert_allclose(together.reshape(-1), alone, rtol=1e-9)


def test_a_lost_link_costs_its_whole_target_or_for_ever():
    whole = receiver(seed=10, devices=4, antennas=2)
    channel = whole.channel.copy()
    channel[1] = 0
    problem, rest = whole.replaced(channel=channel), np.array([0, 2, 3])
    kept = whole.replaced(
        channel=channel[rest],
        target_gains=whole.target_gains[rest],
        power_budget_w=whole.power_budget_w[rest],
    )
    for reference in (digital.ideal_digital, digital.ideal_digital_mac):
        expected = reference(kept).mse + whole.target_gains[1] ** 2
        assert reference(problem).mse == pytest.approx(expected, rel=1e-9)
    assert digital.digital_oma(problem).channel_uses == np.inf


@pytest.mark.parametrize("access", digital.USES)
def test_nothing_wanted_costs_nothing(access):
    problem = AirCompProblem(np.ones((3, 2)), 0.0, 1.0, 0.1)
    assert digital.digital_oma(problem, access=access).channel_uses == 0
    assert digital.ideal_digital(problem).mse == digital.ideal_digital_mac(problem).mse == 0


def test_references_stand_in_a_comparison_without_a_gap_and_say_what_they_are():
    comparison = optim.compare(receiver(seed=11, devices=4), ["auto", *digital.REFERENCES])
    by_name = {row.method: row for row in comparison.rows}
    for name in digital.REFERENCES:
        assert by_name[name].gap is None
        assert by_name[name].outcome.startswith("reference without an analog design: ")
    assert "not the digital optimum" in by_name["ideal-digital"].outcome
    assert by_name["error-free"].mse_db == -np.inf
    assert str(comparison).splitlines()[3].split()[2] == "-"


def test_of_a_combined_problem_only_the_error_free_reference_is_defined():
    rows = optim.compare(combined(), list(digital.REFERENCES)).rows
    assert rows[0].mse == 0
    assert all(row.mse is None and "one receiver" in row.outcome for row in rows[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: digital.digital_oma(receiver(), bits=0), "bits = 0 is not allowed"),
        (lambda: digital.digital_oma(receiver(), clip=0.0), "clip = 0.0 is not allowed"),
        (
            lambda: digital.digital_oma(receiver(), rounding="up"),
            "rounding = 'up' is unknown: choose from nearest",
        ),
        (
            lambda: digital.digital_oma(receiver(), access="fdma"),
            "access = 'fdma' is unknown: choose from tdma",
        ),
        (lambda: digital.ideal_digital_mac(receiver(devices=11)), "11 devices: .* ends at 10"),
        (lambda: digital.ideal_digital(estimated()), "error_covariance is given"),
        (
            lambda: digital.ideal_digital(
                AirCompProblem(np.ones((3, 2, 2)), 1.0, 1.0, 1.0, device_antennas=2)
            ),
            "device_antennas = 2",
        ),
    ],
)
def test_what_a_reference_cannot_take_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
