"""Every method logs its errors under the same names, whichever way its payloads take."""

import numpy as np
import pytest
import torch

from airsim.build import build_simulation
from airsim.orthogonal import OrthogonalUpload, SingleReception
from airsim.radio import PayloadStatistics
from airsim.randomness import RandomStreams
from airsim.scenario.aggregation import GRADIENT_METHOD

ERRORS = ("pi_predicted", "pi_correlated", "pi_realised", "mse_predicted", "mse_correlated", "mse_realised")
LOCAL = {"learning__adapters__personal_rank": 0, "uplink__nonlinear": "orthogonal", "learning__batch": 8}


@pytest.mark.parametrize("present", [range(8), (1, 2, 6)])
@pytest.mark.parametrize("method", [GRADIENT_METHOD, "ps", "sp", "fedinc", "fedavg"])
def test_errors_have_the_same_names_and_one_entry_per_receiver(scenario, method, present):
    changes = {} if method == GRADIENT_METHOD else LOCAL
    engine = build_simulation(scenario(aggregation__method=method, **changes)).engine
    engine.begin(0, present)
    engine.finish(0)
    for name in ERRORS:
        assert np.size(engine.metrics[name]) == (5 if name.startswith("mse") else 1)
        if name.startswith("mse") and method != GRADIENT_METHOD:
            assert engine.metrics[name][0] == engine.metrics[name.replace("mse", "pi")] > 0
            assert engine.metrics[name][1:] == [0.0] * 4


def upload(payload, sent, gain_error, noise_std):
    scales = payload.double().std(dim=1, unbiased=False).numpy()
    receptions = [
        SingleReception(complex(scale * (1 + gain_error)), scale, noise_std * scale, 1 + 0j)
        for scale in scales
    ]
    statistics = PayloadStatistics(np.zeros(len(scales)), scales)
    return OrthogonalUpload((0, 1, 2), payload, sent, statistics, receptions, np.array([0.5, 0.3, 0.2]))


def some_payload(entries=400):
    payload = torch.randn(3, entries, generator=torch.Generator().manual_seed(4))
    sent = torch.ones_like(payload, dtype=torch.bool)
    sent[2, entries // 2 :] = False  # a device of lower rank
    return payload.masked_fill(~sent, 0.0), sent


def test_the_correlated_error_of_single_uploads_is_the_mean_of_the_realised_ones():
    payload, sent = some_payload()
    arrived = upload(payload, sent, gain_error=0.2, noise_std=0.3)
    weights = torch.from_numpy(arrived.weights)
    realised = []
    for index in range(100):
        error = weights @ (arrived.received(RandomStreams(5), index) - payload).double()
        realised.append(float(error.square().mean()) / arrived.reference_std**2)
    assert np.mean(realised) == pytest.approx(arrived.correlated(), rel=0.02)


def test_without_noise_the_correlated_error_is_the_misalignment_and_without_both_nothing():
    payload, sent = some_payload()
    silent = upload(payload, sent, gain_error=0.2, noise_std=0.0)
    mean = torch.from_numpy(silent.weights) @ payload.double()
    expected = 0.2**2 * float(mean.square().mean()) / silent.reference_std**2
    assert silent.correlated() == pytest.approx(expected, rel=1e-5)
    assert upload(payload, sent, 0.0, 0.0).correlated() < 1e-12
