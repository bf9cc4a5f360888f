"""Recorded steps: the same bits as plain ones, without the interpreter."""

import itertools
from dataclasses import replace

import pytest
import torch
from engine_builders import MODELS, common_layers, splits_for
from federation_builders import SCALE

from airsim.learn import local_chunk, recording, training
from airsim.learn.corrections import Proximal
from airsim.learn.local_data import LocalData
from airsim.learn.models.convolution import ImageShape
from airsim.learn.operators.payload import Live
from airsim.learn.optimisers import SGD, AdamW, Momentum
from airsim.learn.prefix import with_products
from airsim.learn.recording import Recordings
from airsim.learn.schedules import LocalSchedule
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams

SIZES = (7, 7, 6)
STEPS = LocalSchedule(batch=4, epochs=2)
KINDS = {
    "sgd": (SGD(0.1, 0.02), None),
    "momentum": (Momentum(0.05, 0.8, 0.01), None),
    "adamw with a pull": (AdamW(0.02), Proximal(0.3)),
}


def trained(model, layers, data, kind, live=None):
    optimiser, correction = KINDS[kind]
    task = LocalTraining(model, SCALE, STEPS, optimiser, correction, live)
    result = task.run(layers, data, (RandomStreams(3), 0))
    again = task.run(result.layers, data, (RandomStreams(3), 1), result.state)
    return [again.losses, *itertools.chain.from_iterable((f.a, f.b) for f in again.layers.values())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("bytes_per_chunk", [1, 2**20], ids=["alone", "side by side"])
def test_recorded_steps_give_the_bits_of_plain_ones(build, kind, bytes_per_chunk, monkeypatch):
    monkeypatch.setattr(training, "TRAINED_BYTES_PER_CHUNK", bytes_per_chunk)
    model = build()
    layers, data = common_layers(model), LocalData((4, 0, 1), splits_for(model, SIZES))
    data = with_products(model, data, set(layers)) if kind == "momentum" else data
    live = dict.fromkeys(layers, Live.B) if kind == "momentum" else None
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 1000)
    monkeypatch.setattr(local_chunk, "LOCAL_STEPS", Recordings())
    expected = trained(model, layers, data, kind, live)
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 0)
    recordings = Recordings()
    monkeypatch.setattr(local_chunk, "LOCAL_STEPS", recordings)
    found = trained(model, layers, data, kind, live)
    assert recordings.number > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_function_is_recorded_once_it_has_been_called_often(monkeypatch):
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 3)
    calls, recordings, kept = [], Recordings(), torch.zeros(2)

    def step(total, term):
        calls.append(1)
        return total.add_(term).sum()

    sums = [float(recordings.call("sum", step, (kept, torch.ones(2)))) for _ in range(6)]
    assert sums == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert len(calls) == 4  # three plain calls and one on copies, which changes nothing


def test_no_more_than_some_functions_are_kept(monkeypatch):
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 0)
    monkeypatch.setattr(recording, "RECORDINGS_KEPT", 2)
    recordings = Recordings()
    for key in range(4):
        assert float(recordings.call(key, lambda x: x.sum(), (torch.ones(3),))) == 3.0
    assert recordings.number == 2


def test_models_of_other_structure_have_recordings_of_their_own(monkeypatch):
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 0)
    monkeypatch.setattr(local_chunk, "LOCAL_STEPS", Recordings())
    wide = MODELS["cnn"]()
    high = replace(wide, image=ImageShape(2, 5, 6), weights=wide.weights)
    layers = common_layers(wide)
    data = LocalData((4, 0, 1), splits_for(wide, SIZES))
    recorded = [trained(model, layers, data, "sgd") for model in (wide, high)]
    monkeypatch.setattr(recording, "CALLS_BEFORE_RECORDING", 1000)
    monkeypatch.setattr(local_chunk, "LOCAL_STEPS", Recordings())
    for model, found in zip((wide, high), recorded, strict=True):
        for one, other in zip(found, trained(model, layers, data, "sgd"), strict=True):
            assert torch.equal(one, other)
