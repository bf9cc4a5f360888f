"""Receivers that remember: the same steps as torch's own optimisers take on the same aggregates."""

import pytest
import torch
from federation_builders import random_adapters, random_model

from airsim.learn.adapters import AdapterRanks, flatten
from airsim.learn.models.heads import HEAD, ClassificationHeads, with_trained_heads
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.server_step import HeardGradients
from airsim.learn.optimisers import AdamW, Momentum

RATE = 0.05
PEERS = {
    "momentum": (Momentum(RATE, 0.8), lambda leaves: torch.optim.SGD(leaves, lr=RATE, momentum=0.8)),
    "adam": (
        AdamW(RATE, (0.8, 0.99), 1e-6),
        lambda leaves: torch.optim.Adam(leaves, lr=RATE, betas=(0.8, 0.99), eps=1e-6),
    ),
}


def aggregates(adapters, tasks, seed):
    rng = torch.Generator().manual_seed(seed)
    sizes = AirPFedLoRA(RATE).payload_sizes(adapters)
    shared = torch.randn(sizes.shared, generator=rng, dtype=torch.float64)
    personal = torch.randn(adapters.num_tasks, sizes.personal, generator=rng, dtype=torch.float64)
    return HeardGradients(shared, personal[list(tasks)], tuple(tasks))


def played(operator, adapters, heard_tasks):
    """Adapters and memory after rounds in which these tasks were heard."""
    memory = operator.start(adapters)
    for index, tasks in enumerate(heard_tasks):
        adapters, memory = operator.step(adapters, memory, aggregates(adapters, tasks, index))
    return adapters, memory


@pytest.mark.parametrize("name", PEERS)
def test_a_server_steps_as_the_optimiser_of_torch_does_on_the_same_aggregates(name):
    optimiser, peer = PEERS[name]
    adapters = random_adapters(random_model())
    heard_tasks = [(0, 1, 2), (0, 2), (1,), (0, 1, 2)]  # who is not heard takes no step
    after, memory = played(AirPFedLoRA(RATE, optimiser), adapters, heard_tasks)
    shared = flatten(adapters.shared).clone().requires_grad_()
    personal = [row.clone().requires_grad_() for row in flatten(adapters.personal)]
    peers = [peer([leaf]) for leaf in (shared, *personal)]
    for index, tasks in enumerate(heard_tasks):
        heard = aggregates(adapters, tasks, index)
        shared.grad = heard.shared
        peers[0].step()
        for row, task in enumerate(tasks):
            personal[task].grad = heard.personal[row]
            peers[1 + task].step()
    torch.testing.assert_close(flatten(after.shared), shared.detach(), rtol=1e-12, atol=1e-12)
    wanted = torch.stack([leaf.detach() for leaf in personal])
    torch.testing.assert_close(flatten(after.personal), wanted, rtol=1e-12, atol=1e-12)
    assert (memory.shared.counts.tolist(), memory.personal.counts.tolist()) == ([4], [3, 3, 3])


@pytest.mark.parametrize("optimiser", [None, *(optimiser for optimiser, _ in PEERS.values())])
def test_a_task_that_is_not_heard_keeps_its_adapter_and_memory_to_the_bit(optimiser):
    operator = AirPFedLoRA(RATE, optimiser)
    adapters, memory = played(operator, random_adapters(random_model()), [(0, 1, 2)])
    heard = aggregates(adapters, (2, 0), 5)
    after, later = operator.step(adapters, memory, heard)
    moved = (flatten(after.personal) != flatten(adapters.personal)).any(dim=1)
    assert moved.tolist() == [True, False, True]
    for name, kept in memory.personal.slots.items():
        for old, new in zip(kept, later.personal.slots[name], strict=True):
            assert torch.equal(old.a[1], new.a[1]) and torch.equal(old.b[1], new.b[1])
            assert not torch.equal(old.a[0], new.a[0])
    assert later.personal.counts.tolist() == [2, 1, 2]


@pytest.mark.parametrize("name", PEERS)
def test_trained_heads_are_stepped_and_remembered_with_their_task(name):
    heads = ClassificationHeads(
        torch.randn(3, 4, 5, dtype=torch.float64), torch.zeros(3, 4).double(), torch.tensor([4, 4, 2])
    )
    adapters = with_trained_heads(random_adapters(random_model()), heads)
    after, memory = played(AirPFedLoRA(RATE, PEERS[name][0]), adapters, [(0, 1), (1,)])
    change = (after.personal[HEAD].a - adapters.personal[HEAD].a).abs().amax(dim=(1, 2))
    assert (change > 0).tolist() == [True, True, False]
    assert all(bool(slot.a[1].any()) for slot in memory.personal.slots[HEAD])


@pytest.mark.parametrize("ranks", [AdapterRanks(0, 2), AdapterRanks(2, 0)])
def test_a_rank_of_zero_stays_empty_under_every_optimiser(ranks):
    adapters = random_adapters(random_model(), ranks=ranks)
    for optimiser, _ in PEERS.values():
        after, _ = played(AirPFedLoRA(RATE, optimiser), adapters, [(0, 1, 2)])
        assert after.ranks == ranks
