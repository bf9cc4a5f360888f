"""Trained heads behind a method's payload: the method is as without them, and the heads are averaged."""

import pytest
import torch

from airsim.learn.adapter_stack import AdapterStack, CommonScaling, stack_common
from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.common_heads import CommonHeads, head_layer
from airsim.learn.models.heads import HEAD, ClassificationHeads
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.base import RoundView, aggregate, participants_of
from airsim.learn.operators.common_heads import WithCommonHeads
from airsim.learn.operators.factor_averaging import RBLA, FactorAveraging, ZeroPadding
from airsim.learn.operators.fresh_basis import CoLR
from airsim.randomness import RandomStreams

RANKS = torch.tensor([2, 1, 3])
SIZES = (4.0, 1.0, 3.0)
MIXED = (ZeroPadding, RBLA, lambda sends: CoLR(RandomStreams(2), sends))
COMMON = (FactorAveraging, FFALoRA, lambda sends: RoLoRA("even", sends))


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(seed=3):
    return ClassificationHeads(draw(seed, 2, 4, 5), draw(seed + 1, 2, 4), torch.tensor([4, 2]))


def adapters():
    return {"first": LoRAFactors(draw(1, 3, 6), draw(2, 7, 3))}


@pytest.mark.parametrize("sends", ["change", "factors"])
@pytest.mark.parametrize("build", [*MIXED, *COMMON])
def test_the_method_does_as_without_heads_and_heads_become_their_weighted_mean(build, sends):
    ranks = RANKS if build in MIXED else torch.full((3,), 3)
    scaling, method = CommonScaling(1.0), build(sends)
    plain = method.start(AdapterState(adapters(), scaling))
    operator = WithCommonHeads(method, sends)
    state = operator.start(AdapterState({**adapters(), HEAD: head_layer(heads())}, scaling))
    kept = stack_common(state.layers, ranks)
    before = operator.broadcast(state, kept, range(3))
    moved = {
        n: LoRAFactors(f.a + draw(20, *f.a.shape), f.b + draw(21, *f.b.shape))
        for n, f in before.layers.items()
    }
    after = AdapterStack(moved, ranks).truncate(ranks)
    bare = [AdapterStack({"first": s.layers["first"]}, ranks) for s in (before, after)]
    people = participants_of(SIZES, ranks.tolist(), range(3))
    with_heads, without = RoundView(0, state, people), RoundView(0, plain, people)
    sent, alone = operator.encode(before, after, with_heads), method.encode(*bare, without)
    update, wanted = aggregate(operator, sent, with_heads), aggregate(method, alone, without)
    assert sent.payload.shape[1] == alone.payload.shape[1] + 2 * 4 * 6
    assert torch.equal(sent.upload_reals, alone.upload_reals + 2 * 4 * 6)
    torch.testing.assert_close(update.state.layers["first"].a, wanted.state.layers["first"].a)
    torch.testing.assert_close(update.state.layers["first"].b, wanted.state.layers["first"].b)
    mean = torch.tensordot(people.weights, after.layers[HEAD].a, dims=1)
    torch.testing.assert_close(update.state.layers[HEAD].a, mean, rtol=1e-12, atol=1e-12)
    down, bare_down = operator.on_downlink(update, with_heads, 3), method.on_downlink(wanted, without, 3)
    assert {n: x.numel() for n, x in down.items()} == {n: x.numel() for n, x in bare_down.items()} | {
        HEAD: 48
    }


def test_a_task_reads_its_own_head_out_of_all_heads():
    all_heads, pooled = heads(), draw(9, 6, 5)

    class Output:
        last_hidden_state = pooled.unsqueeze(1)

    mask, layer = torch.ones(6, 1, dtype=torch.bool), head_layer(all_heads).expand(1)
    for task in range(2):
        wanted = all_heads.for_task(task).logits(Output, mask, None)
        found = CommonHeads(all_heads).for_devices([task, task]).logits(Output, mask, layer)
        torch.testing.assert_close(found, wanted)


def test_devices_of_several_tasks_are_not_passed_together():
    with pytest.raises(ValueError, match="pass the devices of each task on their own"):
        CommonHeads(heads()).for_devices([0, 1])
