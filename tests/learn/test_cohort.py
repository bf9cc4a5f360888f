import itertools

import pytest
import torch
from federation_builders import RANKS, SCALE, random_adapters, random_federation, random_model

from airsim.errors import DivergenceError
from airsim.learn.adapters import AdapterRanks, flatten
from airsim.learn.batches import pad
from airsim.learn.cohort import DEVICES_PER_CHUNK, PADDING_ROWS, Cohort
from airsim.randomness import RandomStreams

STREAMS = RandomStreams(4)


def chunks(cohort, participants=None, round_index=3, ranks=RANKS, dtype=torch.float64):
    model = random_model(dtype=dtype)
    adapters = random_adapters(model, num_tasks=len(cohort.data.tests), ranks=ranks)
    devices = range(cohort.num_devices) if participants is None else participants
    return list(cohort.gradient_chunks(model, adapters, SCALE, round_index, devices))


@pytest.mark.parametrize("ranks", [AdapterRanks(2, 1), AdapterRanks(3, 0), AdapterRanks(0, 3)])
def test_each_row_is_the_gradient_of_that_device_with_the_adapters_of_its_task(ranks):
    cohort, model = Cohort(random_federation(), "full", STREAMS), random_model()
    adapters = random_adapters(model, ranks=ranks)
    (chunk,) = chunks(cohort, ranks=ranks)
    assert chunk.devices == tuple(range(8))
    assert chunk.tasks == cohort.data.task_of_device
    for device, split in enumerate(cohort.data.devices):
        alone = model.device_gradients(adapters.for_task(chunk.tasks[device]), SCALE, pad([split]))
        pairs = {name: factors.split(ranks.shared) for name, factors in alone.layers.items()}
        torch.testing.assert_close(chunk.losses[device], alone.losses[0])
        for row, kind in ((chunk.shared[device], 0), (chunk.personal[device], 1)):
            torch.testing.assert_close(row, flatten({name: pair[kind] for name, pair in pairs.items()})[0])


def test_very_unequal_devices_are_not_padded_to_the_largest(monkeypatch):
    rows = []
    monkeypatch.setattr("airsim.learn.cohort.pad", lambda batches: rows.append(pad(batches)) or rows[-1])
    sizes = ((3, 2000, 5, 1, 900), (40, 2))
    chunks(Cohort(random_federation(sizes), "full", STREAMS))
    computed = sum(batch.weights.numel() for batch in rows)
    assert computed - sum(map(sum, sizes)) <= len(rows) * PADDING_ROWS
    assert len(rows) == 4


@pytest.mark.parametrize("batch", ["full", 3])
def test_a_second_pass_over_the_cohort_gives_the_same_bits(batch):
    cohort = Cohort(random_federation(dtype=torch.float32), batch, STREAMS)
    first, second = chunks(cohort, dtype=torch.float32), chunks(cohort, dtype=torch.float32)
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before.losses, after.losses)
        assert torch.equal(before.shared, after.shared)
        assert torch.equal(before.personal, after.personal)


def test_chunks_have_a_fixed_size_and_change_no_gradient():
    sizes = (tuple(1 + k % 5 for k in range(50)), tuple(1 + k % 3 for k in range(90)))
    cohort = Cohort(random_federation(sizes), "full", STREAMS)
    parts = chunks(cohort)
    assert [len(part.devices) for part in parts] == [DEVICES_PER_CHUNK, DEVICES_PER_CHUNK, 12]
    assert tuple(itertools.chain(*(part.devices for part in parts))) == tuple(range(140))
    (some,) = chunks(cohort, participants=(139, 70, 3))
    assert some.devices == (3, 70, 139)
    everyone = torch.cat([part.shared for part in parts])
    torch.testing.assert_close(some.shared, everyone[[3, 70, 139]])


def test_a_mini_batch_has_no_sample_twice_and_is_drawn_anew_each_round():
    cohort = Cohort(random_federation(((40,), (2,))), 8, STREAMS)
    draws = [cohort._draw(0, round_index).x for round_index in range(6)]
    for x in draws:
        assert len(torch.unique(x, dim=0)) == 8
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(draws, 2))
    assert torch.equal(cohort._draw(1, 0).x, cohort.data.devices[1].x)
    assert [cohort.samples_per_round(device) for device in (0, 1)] == [8, 2]


def test_every_sample_is_drawn_equally_often():
    cohort = Cohort(random_federation(((10,),)), 4, STREAMS)
    x = cohort.data.devices[0].x
    counts = torch.zeros(10)
    for round_index in range(2000):
        counts += (cohort._draw(0, round_index).x[:, None] == x).all(dim=-1).sum(dim=0)
    # Binomial(2000, 0.4): standard deviation 22.
    assert (counts - 800).abs().max() < 100


def test_a_loss_that_is_not_finite_names_round_device_and_learning_rate():
    cohort, model = Cohort(random_federation(), "full", STREAMS, learning_rate=0.3), random_model()
    adapters = random_adapters(model)
    adapters.personal["layer0"].b[1] = torch.inf
    with pytest.raises(DivergenceError, match=r"round 7: the loss of device 3 is nan.*now 0\.3"):
        list(cohort.gradient_chunks(model, adapters, SCALE, 7, range(8)))


def test_participants_are_named_once_and_exist():
    cohort = Cohort(random_federation(), "full", STREAMS)
    with pytest.raises(ValueError, match="name each device once, from 0 to 7"):
        chunks(cohort, participants=(1, 1))
    with pytest.raises(ValueError, match="name each device once, from 0 to 7"):
        chunks(cohort, participants=(8,))
    assert chunks(cohort, participants=()) == []


def test_a_batch_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="batch = 0"):
        Cohort(random_federation(), 0, STREAMS)


def test_a_rank_of_zero_gives_an_empty_payload():
    (chunk,) = chunks(Cohort(random_federation(), "full", STREAMS), ranks=AdapterRanks(2, 0))
    assert chunk.personal.shape == (8, 0)
