import numpy as np
import pytest
from sentences import both_sources, word_tokeniser

from airsim.errors import DataError
from airsim.learn.data.partition import IidPartition
from airsim.learn.data.skew import OneClassPartition
from airsim.learn.data.text_tasks import TextPlan, build_text_federation
from airsim.learn.data.tokens import Encoder
from airsim.randomness import RandomStreams

PLAN = TextPlan(devices_per_task=3, training=15, test=None, partition=IidPartition())


def federation(plan=PLAN, seed=0):
    encoder = Encoder(word_tokeniser(), 6)
    return build_text_federation(
        [encoder.encode(source) for source in both_sources()], plan, RandomStreams(seed)
    )


def test_texts_become_rows_of_tokens_cut_at_the_longest_and_filled_up():
    encoder, source = Encoder(word_tokeniser(), 6), both_sources()[1]
    encoded = encoder.encode(source)
    assert encoded.train.x.shape == (18, 6)
    words = [text.split()[:6] for text in source.train.texts]
    assert ((encoded.train.x >= 0).sum(dim=1).numpy() == [len(own) for own in words]).all()
    decoded = encoder.tokeniser.convert_ids_to_tokens(encoded.train.x[4][: len(words[4])])
    assert decoded == words[4]


def test_the_same_texts_are_tokenised_once():
    encoder = Encoder(word_tokeniser(), 6)
    assert encoder.encode(both_sources()[0]) is encoder.encode(both_sources()[0])


def test_every_source_is_a_task_whose_texts_are_on_its_devices_only():
    data = federation()
    assert data.task_of_device == (0, 0, 0, 1, 1, 1)
    assert [split.size for split in data.devices] == [5] * 6
    assert [split.size for split in data.tests] == [6, 6]
    assert (data.num_classes, data.public.size) == (3, 0)
    rows = [tuple(row.tolist()) for split in data.devices for row in split.x]
    assert len(set(rows)) == 30
    assert not set(rows) & {tuple(row.tolist()) for split in data.tests for row in split.x}


def test_devices_of_one_class_know_no_other():
    data = federation(TextPlan(3, None, None, OneClassPartition()))
    assert [set(split.y.tolist()) for split in data.devices] == [{0}, {1}, {0}, {0}, {1}, {2}]


def test_fewer_texts_are_the_first_of_more():
    few, more = (federation(TextPlan(1, number, None, IidPartition())) for number in (6, 12))
    for small, large in zip(few.devices, more.devices, strict=True):
        assert {tuple(row) for row in small.x.tolist()} <= {tuple(row) for row in large.x.tolist()}


def test_more_texts_than_there_are_and_texts_without_tokens_are_refused():
    with pytest.raises(DataError, match="weather: training texts: 19 wanted, 18 there"):
        federation(TextPlan(3, 19, None, IidPartition()))
    with pytest.raises(DataError, match=r"mine: text 1 \(''\) has no tokens"):
        Encoder(word_tokeniser(), 6).rows("mine", ("the sea", ""))
    with pytest.raises(DataError, match="task 0: 3 samples cannot give 4 devices 1 each"):
        federation(TextPlan(4, 3, None, IidPartition()))
    assert np.all(federation().tests[0].y.numpy() < 2)
