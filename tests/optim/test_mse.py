"""The error formulas against simulation, and each half of a design against its optimality."""

import numpy as np
import pytest

import optim
from tests.optim.instances import combined, rayleigh, receiver


def design_of(problem, seed=0):
    rng = np.random.default_rng(seed)
    batch = problem.batch_shape
    return optim.TransceiverDesign(
        rayleigh(rng, *batch, problem.num_devices), rayleigh(rng, *batch, problem.num_antennas)
    )


def test_the_formula_is_the_error_of_simulated_symbols():
    problem = receiver(seed=1, snr_db=3.0)
    design = optim.solve(problem).design
    rng = np.random.default_rng(0)
    symbols = rayleigh(rng, problem.num_devices, 200_000)
    noise = rayleigh(rng, problem.num_antennas, 200_000) * np.sqrt(problem.noise_power_w)
    received = problem.channel.T @ (design.transmit_scalars[:, None] * symbols) + noise
    error = design.receive_beamformer.conj() @ received - problem.target_gains @ symbols
    assert np.mean(np.abs(error) ** 2) == pytest.approx(
        float(optim.aggregation_mse(problem, design)), rel=0.02
    )


def test_the_correlated_formula_is_the_error_of_given_payloads():
    problem = receiver(seed=2, snr_db=0.0)
    design = optim.solve(problem).design
    rng = np.random.default_rng(1)
    length = 4000
    payload = rng.standard_normal((problem.num_devices, length)) + rng.standard_normal(
        length
    )  # a common part
    payload -= payload.mean(axis=1, keepdims=True)
    payload /= payload.std(axis=1, keepdims=True)
    correlation = payload @ payload.T / length
    symbols = (payload[:, ::2] + 1j * payload[:, 1::2]) / np.sqrt(2)
    realised = []
    for _ in range(200):
        noise = rayleigh(rng, problem.num_antennas, length // 2) * np.sqrt(problem.noise_power_w)
        received = problem.channel.T @ (design.transmit_scalars[:, None] * symbols) + noise
        total = np.sqrt(2) * (design.receive_beamformer.conj() @ received)
        entries = np.stack([total.real, total.imag], axis=-1).reshape(-1)
        realised.append(np.mean((entries - problem.target_gains @ payload) ** 2))
    predicted = float(optim.correlated_mse(problem, design, correlation))
    assert np.mean(realised) == pytest.approx(predicted, rel=0.005)
    assert predicted > 1.2 * float(optim.aggregation_mse(problem, design))


def test_uncorrelated_symbols_are_the_special_case():
    problem = receiver(seed=3, batch=(2,))
    design = design_of(problem)
    correlated = optim.correlated_mse(problem, design, np.tile(np.eye(problem.num_devices), (2, 1, 1)))
    np.testing.assert_allclose(correlated, optim.aggregation_mse(problem, design))


def test_correlation_bounds_its_error_by_its_eigenvalues():
    problem, rng = receiver(seed=4), np.random.default_rng(2)
    mixed = rng.standard_normal((problem.num_devices, 50))
    correlation = mixed @ mixed.T / 50
    design = design_of(problem)
    loss = float(optim.evaluate(problem, design).misalignment)
    noise = float(optim.evaluate(problem, design).noise_term)
    low, high = np.linalg.eigvalsh(correlation)[[0, -1]]
    assert low * loss <= float(optim.correlated_mse(problem, design, correlation)) - noise <= high * loss


def test_no_other_transmit_scalars_do_better():
    problem, rng = receiver(seed=5), np.random.default_rng(3)
    m = 0.3 * rayleigh(rng, problem.num_antennas)
    best = optim.TransceiverDesign(optim.best_transmit_scalars(problem, m), m)
    assert (best.power_w <= problem.power_budget_w * (1 + 1e-12)).all()
    for _ in range(300):
        amplitude = np.sqrt(problem.power_budget_w * rng.random(problem.num_devices))
        other = best.transmit_scalars + 0.1 * rayleigh(rng, problem.num_devices)
        other *= np.minimum(1, amplitude / np.abs(other))
        assert optim.aggregation_mse(problem, optim.TransceiverDesign(other, m)) >= optim.aggregation_mse(
            problem, best
        )


@pytest.mark.parametrize("devices, antennas", [(2, 5), (6, 3)])
def test_the_error_is_flat_at_the_best_receive_beamformer(devices, antennas):
    problem = receiver(seed=6, devices=devices, antennas=antennas)
    b = np.sqrt(problem.power_budget_w).astype(complex)
    best = optim.best_receive_beamformer(problem, b)
    floor = float(optim.aggregation_mse(problem, optim.TransceiverDesign(b, best)))
    arriving = problem.channel.T * b / np.sqrt(problem.noise_power_w)
    inner = np.linalg.inv(np.eye(devices) + arriving.conj().T @ arriving)
    assert floor == pytest.approx((problem.target_gains @ inner @ problem.target_gains).real, rel=1e-10)
    for step in 1e-3 * rayleigh(np.random.default_rng(4), 50, antennas):
        assert optim.aggregation_mse(problem, optim.TransceiverDesign(b, best + step)) > floor


def test_pi_weighs_its_streams_by_rank_and_data():
    problem = combined(seed=7)
    design = optim.solve(problem, starts=1, max_iterations=1).design
    evaluation = optim.evaluate(problem, design)
    shared, personal = 6 / 8, 2 / 8
    sizes = problem.data_sizes
    fractions = [sizes[task].sum() / sizes.sum() for task in problem.members]
    expected = shared * evaluation.stream_mse[0] + personal * np.dot(fractions, evaluation.stream_mse[1:])
    assert evaluation.pi == optim.pi(problem, design) == pytest.approx(expected)


def test_a_design_can_be_judged_on_another_noise():
    quiet, loud = combined(seed=8, snr_db=20.0), combined(seed=8, snr_db=0.0)
    design = optim.solve(quiet).design
    extra = [
        (loud.noise_power_w[i] - quiet.noise_power_w[i]) * np.linalg.norm(part.receive_beamformer) ** 2
        for i, part in enumerate(design.streams)
    ]
    expected = optim.pi(quiet, design) + loud.stream_weights @ extra
    assert optim.evaluate(loud, design).pi == pytest.approx(expected)


def test_a_design_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match="no design for a CombinedProblem"):
        optim.evaluate(combined(), design_of(receiver()))


def test_correlated_stream_errors_come_stream_by_stream():
    problem = combined(seed=9)
    design = optim.solve(problem).design
    identities = [np.eye(len(targets)) for targets in problem.targets]
    streams = optim.correlated_stream_mse(problem, design, identities)
    np.testing.assert_allclose(streams, optim.evaluate(problem, design).stream_mse)
