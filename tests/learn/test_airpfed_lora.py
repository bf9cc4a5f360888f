import torch
from federation_builders import random_adapters, random_model

from airsim.learn.adapters import AdapterRanks, flatten
from airsim.learn.operators.airpfed_lora import AirPFedLoRA


def payloads(adapters, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sizes = AirPFedLoRA(0.1).payload_sizes(adapters)
    shared = torch.randn(sizes.shared, generator=rng, dtype=torch.float64)
    return shared, torch.randn(adapters.num_tasks, sizes.personal, generator=rng, dtype=torch.float64)


def test_a_round_is_one_step_against_the_aggregated_gradient():
    adapters = random_adapters(random_model())
    shared, personal = payloads(adapters)
    before = flatten(adapters.shared), flatten(adapters.personal)
    after = AirPFedLoRA(0.1).apply(adapters, shared, personal)
    torch.testing.assert_close(flatten(after.shared), before[0] - 0.1 * shared)
    torch.testing.assert_close(flatten(after.personal), before[1] - 0.1 * personal)
    assert torch.equal(flatten(adapters.shared), before[0])


def test_the_gradient_of_one_task_moves_no_other_task():
    adapters = random_adapters(random_model())
    shared, personal = payloads(adapters)
    personal[[0, 2]] = 0
    after = AirPFedLoRA(0.1).apply(adapters, torch.zeros_like(shared), personal)
    moved = (flatten(after.personal) != flatten(adapters.personal)).any(dim=1)
    assert moved.tolist() == [False, True, False]


def test_adapters_keep_their_precision_whatever_the_air_works_in():
    adapters = random_adapters(random_model(dtype=torch.float32))
    after = AirPFedLoRA(0.1).apply(adapters, *payloads(adapters))
    assert flatten(after.shared).dtype == torch.float32


def test_a_rank_of_zero_sends_nothing_and_stays_empty():
    adapters = random_adapters(random_model(), ranks=AdapterRanks(0, 2))
    assert AirPFedLoRA(0.1).payload_sizes(adapters).shared == 0
    after = AirPFedLoRA(0.1).apply(adapters, *payloads(adapters))
    assert after.ranks == (0, 2)
