import numpy as np
import pytest
import torch
from federation_builders import random_split

from airsim.errors import DataError, DivergenceError
from airsim.learn.data.sources import load_digits
from airsim.learn.data.tasks import make_split
from airsim.learn.models.plans import MlpPlan
from airsim.learn.pretraining import (
    PretrainingSpec,
    base_checksum,
    load_base,
    pretrain_base,
    random_base,
    save_base,
)
from airsim.randomness import RandomStreams

SIZES = MlpPlan((6, 4, 3))
SHORT = PretrainingSpec(steps=5, batch=4)


def public(seed=0):
    return random_split(20, seed=seed, dtype=torch.float32)


def same(one, other):
    pairs = zip((*one.weights, *one.biases), (*other.weights, *other.biases), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_pretrained_base_reads_digits_it_has_not_seen(tmp_path):
    digits = load_digits()
    # The digits come writer by writer: only a random order makes the held-out ones alike.
    public, held_out = np.split(np.random.default_rng(0).permutation(len(digits.labels)), [300])
    split = make_split(digits.images[public], digits.labels[public], "upright")
    base = pretrain_base(split, MlpPlan((64, 64, 64, 10)), PretrainingSpec(), RandomStreams(0), tmp_path)
    x = make_split(digits.images[held_out], digits.labels[held_out], "upright").x
    for index, (weight, bias) in enumerate(zip(base.weights, base.biases, strict=True)):
        x = (x.relu() if index else x) @ weight.T + bias
    assert (x.argmax(dim=1).numpy() == digits.labels[held_out]).mean() > 0.85


def test_a_random_base_keeps_the_size_of_the_signal_through_its_layers():
    base = random_base(MlpPlan((200, 300, 300, 300, 300)), RandomStreams(0))
    x = torch.randn(500, 200, generator=torch.Generator().manual_seed(0))
    for weight in base.weights:
        x = (x @ weight.T).relu()
        # A rectifier halves the energy of a symmetric signal, and the variance 2 / fan_in gives it back.
        assert x.square().mean().item() == pytest.approx(1.0, rel=0.25)


def test_the_same_training_is_done_once(tmp_path, monkeypatch):
    first = pretrain_base(public(), SIZES, SHORT, RandomStreams(0), tmp_path)
    monkeypatch.setattr("airsim.learn.pretraining._train", lambda *_: pytest.fail("trained again"))
    assert same(pretrain_base(public(), SIZES, SHORT, RandomStreams(0), tmp_path), first)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_training_twice_gives_the_same_bits(tmp_path):
    one, other = (
        pretrain_base(public(), SIZES, SHORT, RandomStreams(0), tmp_path / name) for name in ("one", "other")
    )
    assert same(one, other)


def test_whatever_decides_the_base_has_its_own_place_in_the_cache(tmp_path):
    pretrain_base(public(), SIZES, SHORT, RandomStreams(0), tmp_path)
    pretrain_base(public(seed=9), SIZES, SHORT, RandomStreams(0), tmp_path)
    pretrain_base(public(), MlpPlan((6, 5, 3)), SHORT, RandomStreams(0), tmp_path)
    pretrain_base(public(), SIZES, PretrainingSpec(steps=6, batch=4), RandomStreams(0), tmp_path)
    pretrain_base(public(), SIZES, SHORT, RandomStreams(1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_base_comes_back_from_its_file(tmp_path):
    base, path = random_base(SIZES, RandomStreams(2)), tmp_path / "base.safetensors"
    save_base(base, path)
    assert same(load_base(path, SIZES), base)
    assert base_checksum(path) == base_checksum(path)
    save_base(random_base(SIZES, RandomStreams(3)), tmp_path / "other.safetensors")
    assert base_checksum(path) != base_checksum(tmp_path / "other.safetensors")


def test_a_base_of_other_widths_a_damaged_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "base.safetensors"
    save_base(random_base(SIZES, RandomStreams(2)), path)
    with pytest.raises(DataError, match=r"layer0.weight.*learning.model.hidden"):
        load_base(path, MlpPlan((6, 5, 3)))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="no base model can be read"):
        load_base(path, SIZES)
    with pytest.raises(DataError, match="no base model can be read"):
        base_checksum(tmp_path / "nowhere")


def test_pretraining_that_diverges_says_which_rate_to_lower(tmp_path):
    spec = PretrainingSpec(steps=50, batch=4, learning_rate=1e30)
    with pytest.raises(DivergenceError, match=r"learning.model.base.learning_rate \(now 1e\+30\)"):
        pretrain_base(public(), SIZES, spec, RandomStreams(0), tmp_path)
    assert not list(tmp_path.iterdir())
