"""The radio chain against its definition, and against the error formulas that designs minimise."""

import math

import numpy as np
import pytest
import torch

from airsim.radio import (
    AntennaLevelAir,
    Common,
    PerDevice,
    RootMeanSquare,
    ScalarGainAir,
    denormalise,
    normalise,
    num_symbols,
    transfer_s,
    transmit_energy_j,
    uplink_s,
)

RULES = [PerDevice(), Common(), RootMeanSquare()]


def complex_normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2)


def payloads(num_devices=6, entries=2001, seed=1):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 1, (num_devices, 1))
    return torch.from_numpy(scale * rng.standard_normal((num_devices, entries)) + 0.3 * scale).float()


def as_tensors(statistics):
    return torch.from_numpy(statistics.offset).float(), torch.from_numpy(statistics.scale).float()


def link(num_devices=6, antennas=4, noise_power_w=0.05, seed=2):
    """A channel, transmit scalars and a beamformer, as both implementations of the air."""
    rng = np.random.default_rng(seed)
    channel = complex_normal(rng, num_devices, antennas)
    scalars, beamformer = complex_normal(rng, num_devices), complex_normal(rng, antennas)
    gains = (channel @ beamformer.conj()) * scalars
    noise_std = math.sqrt(noise_power_w) * np.linalg.norm(beamformer)
    antenna = AntennaLevelAir(*map(torch.from_numpy, (channel, scalars, beamformer)), noise_power_w)
    return antenna, ScalarGainAir(torch.from_numpy(gains), float(noise_std))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("entries", [1, 2, 7, 2001])
def test_an_ideal_air_returns_the_weighted_sum_of_the_payloads(rule, entries):
    payload = payloads(entries=entries)
    weights = torch.tensor([0.1, 0.2, 0.05, 0.4, 0.15, 0.1])
    statistics = rule.statistics(payload)
    offset, scale = as_tensors(statistics)
    air = ScalarGainAir((weights * scale).to(torch.complex64), 0.0)
    symbols = air.receive(air.superpose(normalise(payload, offset, scale), range(6)))
    aggregate = denormalise(symbols, 1.0, float(weights @ offset), entries)
    torch.testing.assert_close(aggregate, weights @ payload, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", [PerDevice(), RootMeanSquare()], ids=lambda rule: type(rule).__name__)
def test_symbols_have_unit_power_whatever_the_payload(rule):
    payload = payloads(entries=4000)
    symbols = normalise(payload, *as_tensors(rule.statistics(payload)))
    power = symbols.abs().square().mean(dim=1)
    torch.testing.assert_close(power, torch.ones(6), rtol=1e-4, atol=0)


def test_common_normalisation_gives_the_largest_deviation_unit_power_and_the_others_less():
    shared, personal = payloads(seed=3), payloads(seed=4)
    rule = Common()
    scales = [rule.statistics(payload).scale for payload in (shared, personal)]
    powers = rule.symbol_power(*scales)
    largest = max(scale.max() for scale in scales)
    for scale, power in zip(scales, powers, strict=True):
        np.testing.assert_allclose(power, scale**2 / largest**2)
    assert max(power.max() for power in powers) == 1.0


def test_a_constant_payload_has_nothing_to_send_and_its_mean_still_arrives():
    payload = torch.full((1, 5), 0.25)
    statistics = PerDevice().statistics(payload)
    symbols = normalise(payload, *as_tensors(statistics))
    assert torch.equal(symbols, torch.zeros(1, 3, dtype=torch.complex64))
    assert torch.equal(denormalise(symbols[0], 1.0, 0.25, 5), payload[0])


def test_an_empty_payload_passes_through():
    payload = torch.zeros(3, 0)
    statistics = PerDevice().statistics(payload)
    assert statistics.scale.tolist() == [0, 0, 0]
    assert normalise(payload, *as_tensors(statistics)).shape == (3, 0)


def test_antennas_and_scalar_gains_are_the_same_sum():
    antenna, scalar = link()
    symbols = torch.from_numpy(complex_normal(np.random.default_rng(5), 6, 1000))
    one = antenna.receive(antenna.superpose(symbols, range(6)))
    other = scalar.receive(scalar.superpose(symbols, range(6)))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_antennas_and_scalar_gains_have_the_same_noise_after_combining():
    variances = [
        float(air.receiver_noise(200_000, np.random.default_rng(6)).abs().square().mean()) for air in link()
    ]
    expected = 0.05 * float(link()[0].receive_beamformer.abs().square().sum())
    assert variances == pytest.approx([expected, expected], rel=0.01)


def test_noise_is_circular():
    noise = link()[1].receiver_noise(200_000, np.random.default_rng(7))
    assert float(noise.real.square().mean()) == pytest.approx(float(noise.imag.square().mean()), rel=0.02)
    assert abs(float((noise.real * noise.imag).mean())) < 0.01 * float(noise.abs().square().mean())


@pytest.mark.parametrize("which", [0, 1], ids=["antennas", "scalar gains"])
def test_a_cohort_in_chunks_is_the_cohort_at_once(which):
    air = link()[which]
    symbols = torch.from_numpy(complex_normal(np.random.default_rng(8), 6, 300))
    whole = air.receive(air.superpose(symbols, range(6)))
    parts = air.superpose(symbols[:4], range(4)) + air.superpose(symbols[4:], [4, 5])
    torch.testing.assert_close(air.receive(parts), whole, rtol=1e-12, atol=1e-12)


def test_simulated_error_is_misalignment_plus_noise_for_independent_symbols():
    _, air = link()
    targets = torch.full((6,), 1 / 6, dtype=torch.complex128)
    entries = 400_000
    rows = torch.from_numpy(np.random.default_rng(9).standard_normal((6, entries)))
    symbols = normalise(rows, torch.zeros(6), torch.ones(6))
    received = air.receive(air.superpose(symbols, range(6)))
    received = received + air.receiver_noise(num_symbols(entries), np.random.default_rng(10))
    error = denormalise(received - targets @ symbols, 1.0, 0.0, entries).square().mean()
    misalignment = (air.gains - targets).abs().square().sum()
    assert float(error) == pytest.approx(float(misalignment) + air.noise_std**2, rel=0.01)


def test_correlated_symbols_follow_the_quadratic_form_of_their_correlation():
    _, air = link()
    entries = 20_000
    rng = np.random.default_rng(11)
    common = rng.standard_normal(entries)
    rows = torch.from_numpy(0.8 * common + 0.6 * rng.standard_normal((6, entries)))
    targets = torch.full((6,), 1 / 6, dtype=torch.complex128)
    symbols = normalise(rows, torch.zeros(6), torch.ones(6))
    delta = air.gains - targets
    error = denormalise(delta @ symbols, 1.0, 0.0, entries).square().mean()
    gamma = (2 / entries) * symbols @ symbols.mH  # Hermitian correlation of the complex symbols
    assert float(error) == pytest.approx(float((delta @ gamma @ delta.conj()).real), rel=1e-9)


def test_symbols_seconds_and_joules():
    assert [num_symbols(entries) for entries in (0, 1, 2, 3)] == [0, 1, 1, 2]
    assert uplink_s(2_000, 1e6) == pytest.approx(2e-3)
    assert transfer_s(4, 1e6) == pytest.approx(128e-6)
    energy_j = transmit_energy_j(np.array([0.1j, 0.2]), 1_000, 1e6)
    np.testing.assert_allclose(energy_j, [1e-5, 4e-5])
