"""The design of a round, end to end, against the literal definition of every normalisation."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch

import optim
from airsim.build import build_simulation
from airsim.scenario.channel import Method
from airsim.uplink import TransceiverDesigner


class Watched(TransceiverDesigner):
    """Designs as usual and keeps its last design."""

    def design(self, problem):
        solution = super().design(problem)
        object.__setattr__(self, "last", solution.design)
        return solution


def symbols_by_definition(payload, normalisation, largest_deviation):
    """What each device sends, its divisor, and the mean power of its symbols; nothing taken from radio."""
    offset = 0.0 if normalisation == "rms" else payload.mean(axis=1, keepdims=True)
    deviation = np.sqrt(((payload - offset) ** 2).mean(axis=1))
    divisor = np.full_like(deviation, largest_deviation) if normalisation == "common" else deviation
    symbols = (payload - offset) / divisor[:, None]
    return symbols, divisor, (symbols**2).mean(axis=1)


@pytest.mark.parametrize("air", ["effective", "antenna"])
@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
def test_errors_and_joules_are_those_of_the_definition(scenario, normalisation, air):
    r"""``delta^H Gamma delta + sigma^2 |m|^2`` with measured Gamma, and ``v |b|^2 S / B`` joules."""
    config = scenario(uplink__normalisation=normalisation, uplink__air=air, channel__snr="0 dB")
    engine = build_simulation(config).engine
    designer = Watched(**dataclasses.asdict(engine.uplink.designer))
    engine.uplink = dataclasses.replace(engine.uplink, designer=designer)
    federation, budget = engine.federation, engine.uplink.budget
    sizes = federation.data_sizes
    chunks = list(engine.learner.gradients(engine.adapters, 0, range(len(sizes))))
    kinds = ("shared", "personal")
    payloads = [torch.cat([getattr(chunk, kind) for chunk in chunks]).double().numpy() for kind in kinds]
    largest = max(payload.std(axis=1).max() for payload in payloads)
    airtime = engine.begin(0, range(len(sizes)))
    engine.finish(0)

    designs = (designer.last.base_station, *designer.last.edge_servers)
    uses = (federation.symbols_shared, federation.symbols_personal)
    spent_j = (airtime.shared_energy_j, airtime.personal_energy_j)
    for stream, (model, design) in enumerate(zip(engine.uplink.channels, designs, strict=True)):
        phase, members = min(stream, 1), list(federation.rows[stream])
        symbols, divisor, power = symbols_by_definition(payloads[phase][members], normalisation, largest)
        weights = sizes[members] / sizes[members].sum()
        gains = (model.realise(0).response @ design.receive_beamformer.conj()) * design.transmit_scalars
        delta = gains - weights * divisor / engine.metrics["reference_std"]
        noise = budget.noise_power_w * np.linalg.norm(design.receive_beamformer) ** 2
        gamma = symbols @ symbols.T / symbols.shape[1]
        correlated = (delta.conj() @ gamma @ delta).real + noise
        assert engine.metrics["mse_correlated"][stream] == pytest.approx(correlated, rel=1e-4)
        predicted = power @ np.abs(delta) ** 2 + noise
        assert engine.metrics["mse_predicted"][stream] == pytest.approx(predicted, rel=1e-6)
        joules = power * np.abs(design.transmit_scalars) ** 2 * uses[phase] / budget.bandwidth_hz
        np.testing.assert_allclose(np.array(spent_j[phase])[members], joules, rtol=1e-6)


METHODS = get_args(Method)
ONE_RECEIVER_ONLY = {"threshold", "branch-and-bound", "robust"}  # or, for a known channel, the default again


def test_a_scenario_names_every_method_that_designs_all_receivers():
    forcing = {method for method in optim.METHODS if method.startswith("uniform-forcing")}
    assert set(METHODS) == set(optim.METHODS) - forcing - ONE_RECEIVER_ONLY


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_a_scenario_designs_its_rounds_and_none_beats_the_default(scenario, method):
    pis = []
    for name in (method, "auto"):
        engine = build_simulation(scenario(allocation__method=name, allocation__starts=2)).engine
        engine.begin(0, range(8))
        pis.append(engine.metrics["pi_predicted"])
    assert np.isfinite(pis[0]) and pis[0] >= pis[1] * (1 - 1e-3)
