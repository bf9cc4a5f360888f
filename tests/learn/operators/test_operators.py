"""What single methods promise beyond their definitions: limits, noise, refusals, choices."""

import dataclasses

import pytest
import torch

from airsim.learn.adapter_stack import AdapterStack, CommonScaling
from airsim.learn.adapters import LoRAFactors
from airsim.learn.conformance.cases import CASES
from airsim.learn.conformance.instance import EQUAL_RANKS, MIXED_RANKS, PRESENT, SHAPES, instance
from airsim.learn.conformance.play import play
from airsim.learn.operators.adapter_operator import AdapterState, spread
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.base import (
    OnAir,
    RoundView,
    aggregate,
    participants_of,
    uplink_reals,
    with_weights,
)
from airsim.learn.operators.clustered import FedInc, join_closest, one_cluster
from airsim.learn.operators.factor_averaging import (
    RBLA,
    FactorAveraging,
    HetLoRA,
    ZeroPadding,
    tail_norms,
    tail_penalty,
)
from airsim.learn.operators.fresh_basis import CoLR
from airsim.learn.operators.full_model import MOON, FedProx
from airsim.learn.operators.payload import Live, everywhere, flatten_live, place
from airsim.learn.operators.personal_factor import FedSALoRA
from airsim.learn.operators.product_averaging import ProductAveraging
from airsim.learn.operators.products import best_rank
from airsim.learn.operators.rank_selection import LoRAA2
from airsim.learn.operators.residual import FedExLoRA, LoRAFAIR, cosine_slope, nearest_correction
from airsim.randomness import RandomStreams


def case(method):
    return next(case for case in CASES if case.method.startswith(method))


def tensors(seed, *shapes):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes]


def untrained_round(operator, ranks):
    """The adapters after a round in which nobody trained, and before it."""
    inst = instance(ranks)
    state = operator.start(inst.state)
    before = operator.broadcast(state, inst.kept.take(PRESENT), PRESENT)
    view = RoundView(0, state, inst.participants)
    update = aggregate(operator, operator.encode(before, before, view), view)
    return operator.broadcast(update.state, before, PRESENT), before


@pytest.mark.parametrize(
    ("operator", "ranks"),
    [
        (FactorAveraging(), EQUAL_RANKS),
        (FFALoRA(), EQUAL_RANKS),
        (RoLoRA(), EQUAL_RANKS),
        (FedSALoRA(), MIXED_RANKS),
        (RBLA(), MIXED_RANKS),
        (ProductAveraging(), EQUAL_RANKS),
        (ProductAveraging("even", "dense"), EQUAL_RANKS),
        (FedExLoRA(), EQUAL_RANKS),
        (LoRAFAIR("squared"), EQUAL_RANKS),
        (LoRAA2((2,) * 5), EQUAL_RANKS),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_identical_devices_and_a_perfect_channel_change_nothing(operator, ranks):
    after, before = untrained_round(operator, ranks)
    for name in SHAPES:
        torch.testing.assert_close(
            after.layers[name].b @ after.layers[name].a, before.layers[name].b @ before.layers[name].a
        )


def test_a_change_is_far_smaller_than_the_factors_when_training_moved_little():
    inst = instance(EQUAL_RANKS)
    operators = [FactorAveraging(sends) for sends in ("change", "factors")]
    before = spread(inst.state, inst.participants.ranks)
    layers = {name: LoRAFactors(f.a * 1.001, f.b * 1.001) for name, f in before.layers.items()}
    view = RoundView(0, inst.state, inst.participants)
    sizes = [
        float(operator.encode(before, AdapterStack(layers, before.ranks), view).payload.norm())
        for operator in operators
    ]
    assert sizes[0] < 0.002 * sizes[1]


def noisy_products(operator, noise):
    """The broadcast product with noise on the air, minus the one without."""
    inst = instance(EQUAL_RANKS)
    before = spread(inst.state, inst.participants.ranks)
    after = inst.train(before, operator.live(inst.state, 0))
    view = RoundView(0, inst.state, inst.participants)
    total = inst.participants.weights @ operator.encode(before, after, view).payload
    (draw,) = tensors(3, total.shape)
    states = [operator.decode(total + level * draw, view).state.layers["tall"] for level in (noise, 0.0)]
    return states[0].b @ states[0].a - states[1].b @ states[1].a


def test_noise_enters_averaged_factors_as_a_product_and_a_single_factor_linearly():
    for operator, linear in ((FFALoRA(), True), (FactorAveraging(), False)):
        doubled, once = noisy_products(operator, 2.0), noisy_products(operator, 1.0)
        assert torch.allclose(doubled, 2 * once) is linear


@pytest.mark.parametrize("operator", [FactorAveraging(), RBLA(), ZeroPadding()])
def test_single_precision_adapters_stay_in_single_precision(operator):
    inst = instance(EQUAL_RANKS)
    layers = {name: LoRAFactors(f.a.float(), f.b.float()) for name, f in inst.state.layers.items()}
    state = AdapterState(layers, CommonScaling(2.0))
    before = spread(state, inst.participants.ranks)
    after = AdapterStack(
        {name: LoRAFactors(f.a + 1, f.b + 1) for name, f in before.layers.items()}, before.ranks
    )
    view = RoundView(0, state, inst.participants)
    sent = operator.encode(before, after, view)
    new = aggregate(operator, sent, view).state.layers["tall"]
    assert sent.payload.dtype == new.a.dtype == new.b.dtype == torch.float32
    torch.testing.assert_close(new.a, layers["tall"].a + 1)


def test_only_nonlinear_methods_see_more_than_one_vector(monkeypatch):
    for each in CASES:
        played = play(each, instance(EQUAL_RANKS), each.rounds[0])
        seen, own = [], type(played.operator)

        def decode(self, received, view, seen=seen, true=own.decode):
            seen.append(received.ndim)
            return true(self, received, view)

        with monkeypatch.context() as patch:
            patch.setattr(own, "decode", decode)
            aggregate(played.operator, played.sent, played.view)
        assert seen == [2 if played.operator.on_air is OnAir.NONLINEAR else 1]


def test_a_dense_route_turns_a_method_linear_and_carries_the_dense_matrices():
    played = play(case("flexlora"), instance(MIXED_RANKS), 0, "change", "dense")
    assert played.operator.on_air is OnAir.LINEAR
    assert uplink_reals(played.operator.on_air, played.sent) == sum(o * i for o, i in SHAPES.values())
    single = play(case("flexlora"), instance(MIXED_RANKS))
    ends = sum(o + i for o, i in SHAPES.values())
    assert uplink_reals(single.operator.on_air, single.sent) == ends * sum(MIXED_RANKS[k] for k in PRESENT)


def test_one_participant_alone_has_no_residual():
    inst = instance(EQUAL_RANKS)
    view = RoundView(0, inst.state, participants_of([1.0], [3], [0]))
    before = spread(inst.state, view.participants.ranks)
    update = aggregate(FedExLoRA(), FedExLoRA().encode(before, before, view), view)
    assert update.base_increment == {}


def test_a_component_that_no_participant_has_stays_with_rbla_and_vanishes_with_zero_padding():
    inst = instance((3, 1, 2, 3, 2))
    view = RoundView(0, inst.state, participants_of([1.0] * 5, inst.ranks, [1, 2]))
    before = spread(inst.state, view.participants.ranks)
    old = inst.state.layers["tall"].a[2]
    for operator, wanted in ((RBLA(), old), (ZeroPadding(), torch.zeros_like(old))):
        state = aggregate(operator, operator.encode(before, before, view), view).state
        torch.testing.assert_close(state.layers["tall"].a[2], wanted)


def test_hetlora_drops_a_tail_that_shrank_and_keeps_one_that_grew():
    inst = instance(EQUAL_RANKS)
    before = spread(inst.state, torch.tensor([3, 3]))
    factor = torch.tensor([0.5, 1.5], dtype=torch.float64)[:, None]
    layers = {
        name: LoRAFactors(torch.cat((f.a[:, :2], (f.a[:, 2] * factor).unsqueeze(1)), dim=1), f.b)
        for name, f in before.layers.items()
    }
    kept = HetLoRA().finish_locally(before, AdapterStack(layers, before.ranks), inst.state)
    assert kept.ranks.tolist() == [2, 3] and kept.is_padded_with_zeros()
    scales = inst.scaling.of(torch.tensor([3, 2]))
    was = scales[0] * before.layers["tall"].b[0, :, :2] @ before.layers["tall"].a[0, :2]
    torch.testing.assert_close(scales[1] * kept.layers["tall"].b[0] @ kept.layers["tall"].a[0], was)
    unpruned = HetLoRA(kept_share=1.0).finish_locally(before, AdapterStack(layers, before.ranks), inst.state)
    assert unpruned.ranks.tolist() == [3, 3]


def test_the_tail_penalty_is_the_product_of_both_tail_norms_and_has_a_gradient():
    a, b = tensors(1, (1, 3, 4), (1, 5, 3))
    a.requires_grad_()
    stack = AdapterStack({"only": LoRAFactors(a, b)}, torch.tensor([3]))
    penalty = tail_penalty(stack, 0.7, 0.1)
    torch.testing.assert_close(penalty, 0.1 * a[:, 2].norm().reshape(1) * b[:, :, 2].norm())
    penalty.sum().backward()
    assert a.grad[:, 2].abs().sum() > 0 and not a.grad[:, :2].any()
    assert torch.equal(tail_norms(stack, torch.tensor([3])), torch.zeros(1, dtype=torch.float64))


def test_the_pull_on_tails_is_the_gradient_of_the_penalty_and_zero_tails_are_left_alone():
    ranks, kept_share = torch.tensor([4, 3, 1, 4]), 0.7
    a, b = tensors(2, (4, 4, 5), (4, 6, 4))
    b[3, :, 2:] = 0.0  # a device whose tail of B is 0, as before any training
    stack = AdapterStack({"one": LoRAFactors(a, b), "two": LoRAFactors(b.mT, a.mT)}, ranks).truncate(ranks)
    leaves = [part.clone().requires_grad_() for f in stack.layers.values() for part in (f.a, f.b)]
    pairs = zip(stack.layers, zip(leaves[::2], leaves[1::2], strict=True), strict=True)
    free = AdapterStack({name: LoRAFactors(*pair) for name, pair in pairs}, ranks)
    wanted = torch.autograd.grad(tail_penalty(free, kept_share, 0.3).sum(), leaves)
    devices = (7, 2, 5, 0)
    term = HetLoRA(kept_share=kept_share, tail_weight=0.3).local_term(stack, devices)
    for index, (name, factors) in enumerate(stack.layers.items()):
        found = term.of(name, devices, factors, factors)
        torch.testing.assert_close(found.a, wanted[2 * index], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.b, wanted[2 * index + 1], rtol=1e-10, atol=1e-12)
        (alone,) = term.of(name, devices[1:2], factors.take([1]), factors.take([1])).a
        assert torch.equal(alone, found.a[1])


def test_the_closed_form_of_lora_fair_has_the_least_value_around_it():
    ideal, b, a = tensors(1, (6, 5), (6, 2), (2, 5))
    mean = LoRAFactors(a, b)
    best = nearest_correction(ideal, mean, 0.3)

    def value(step):
        return float((ideal - (b + step) @ a).square().sum() + 0.3 * step.square().sum())

    assert value(best) < value(torch.zeros_like(best))
    for (step,) in (tensors(seed, best.shape) for seed in range(5)):
        assert value(best) < min(value(best + 1e-3 * step), value(best - 1e-3 * step))


def test_the_cosine_slope_is_that_of_autograd_and_the_descent_reaches_where_it_ends():
    ideal, b, a = tensors(1, (6, 5), (6, 2), (2, 5))
    leaf = b.clone().requires_grad_()
    loss = 1 - torch.nn.functional.cosine_similarity(ideal.flatten(), (leaf @ a).flatten(), dim=0)
    loss.backward()
    target, gram, length = ideal @ a.mT, a @ a.mT, ideal.norm()
    torch.testing.assert_close(cosine_slope(target, length, b, gram), leaf.grad)
    step = LoRAFAIR("cosine", 0.05, 2000, 0.5).correction(ideal, LoRAFactors(a, b))
    slope = cosine_slope(target, length, b + step, gram) + 2 * 0.05 * step
    assert float(slope.abs().max()) < 1e-10
    assert not cosine_slope(target, length, torch.zeros_like(b), gram).any()


def test_planted_groups_are_found_again_whatever_their_factors_look_like():
    (rotation,) = tensors(5, (2, 2))
    groups = [0, 1, 0, 1, 1]
    parts = []
    for row, group in enumerate(groups):
        a, b = tensors(20 + group, (2, 6), (5, 2))
        noise_a, noise_b = tensors(40 + row, (2, 6), (5, 2))
        turned = torch.linalg.solve(rotation, a + 0.05 * noise_a)
        parts.append((turned, (b + 0.05 * noise_b) @ rotation))
    after = AdapterStack(
        {"only": LoRAFactors(*(torch.stack(column) for column in zip(*parts, strict=True)))},
        torch.full((5,), 2),
    )
    a, b = tensors(9, (2, 6), (5, 2))
    state = one_cluster({"only": LoRAFactors(a, b)}, CommonScaling(1.0), 5)
    view = RoundView(0, state, participants_of([1.0, 2.0, 3.0, 1.0, 2.0], [2] * 5, range(5)))
    operator = FedInc(2)
    before = operator.broadcast(state, after, range(5))
    found = aggregate(operator, operator.encode(before, after, view), view).state
    assert [found.cluster_of[device] for device in range(5)] == groups
    assert join_closest(torch.eye(3), 3) == [[0], [1], [2]]


def test_a_basis_is_orthonormal_new_in_every_round_and_the_same_for_a_seed():
    state = instance(EQUAL_RANKS).state
    operator = CoLR(RandomStreams(7))
    first, again, next_round = (operator.fresh(state, t).layers for t in (0, 0, 1))
    basis = first["tall"].a
    torch.testing.assert_close(basis @ basis.mT, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(first["wide"].b.mT @ first["wide"].b, torch.eye(3, dtype=torch.float64))
    assert not first["tall"].b.any() and not first["wide"].a.any()
    assert torch.equal(basis, again["tall"].a) and not torch.allclose(basis, next_round["tall"].a)


def test_parity_says_which_factor_moves_first():
    state = instance(EQUAL_RANKS).state
    for operator in (RoLoRA("even"), LoRAA2((1,), "even")):
        assert [operator.live(state, t)["tall"] for t in (0, 1, 2)] == [Live.B, Live.A, Live.B]
    for operator in (RoLoRA("odd"), LoRAA2((1,), "odd")):
        assert [operator.live(state, t)["tall"] for t in (0, 1)] == [Live.A, Live.B]


def test_a_full_budget_makes_rank_selection_an_ordinary_mean():
    inst = instance(EQUAL_RANKS)
    before = spread(inst.state, inst.participants.ranks)
    after = inst.train(before, everywhere(inst.state.layers, Live.B))
    view = RoundView(0, inst.state, inst.participants)
    states = [
        aggregate(operator, operator.encode(before, after, view), view).state
        for operator in (LoRAA2((3,) * 5), FFALoRA())
    ]
    for name in SHAPES:
        torch.testing.assert_close(states[0].layers[name].b, states[1].layers[name].b)


def test_indices_norms_and_ranks_are_charged_to_the_control_channel():
    played = play(case("lora-a2"), instance(EQUAL_RANKS))
    budgets = torch.tensor([played.operator.budgets[k] for k in PRESENT])
    assert torch.equal(played.sent.control_reals, budgets * len(SHAPES))
    assert play(case("hetlora"), instance(MIXED_RANKS)).sent.control_reals.tolist() == [2] * 4


@pytest.mark.parametrize("shape", [(20, 15, 3), (6, 20, 9), (4, 3, 7)])
def test_a_wide_product_is_truncated_like_the_matrix_that_it_is(shape):
    outputs, inputs, inner = shape
    b, a = tensors(1, (outputs, inner), (inner, inputs))
    for rank in (1, 2, 5):
        values = torch.linalg.svdvals(b @ a)
        for split in ("left", "even"):
            near = best_rank(LoRAFactors(a, b), rank, split)
            assert near.rank == rank
            distance = (b @ a - near.b @ near.a).norm()
            torch.testing.assert_close(distance, values[rank:].square().sum().sqrt(), atol=1e-12, rtol=1e-9)


def test_a_payload_of_another_length_is_refused():
    layers = instance(EQUAL_RANKS).state.layers
    live = everywhere(layers, Live.A)
    with pytest.raises(ValueError, match="must agree"):
        place(flatten_live(layers, everywhere(layers, Live.BOTH)), layers, live)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: participants_of([1.0, 1.0], [1, 1], [0, 0]), r"devices = \(0, 0\)"),
        (lambda: participants_of([1.0, 1.0], [1, 1], []), "at least one device"),
        (lambda: participants_of([1.0, 0.0], [1, 1], [1]), "each needs data"),
        (lambda: HetLoRA(kept_share=0.0), r"kept_share = 0\.0"),
        (lambda: HetLoRA(tail_weight=-1.0), r"tail_weight = -1\.0"),
        (lambda: LoRAFAIR(strength=0.0), r"strength = 0\.0"),
        (lambda: FedInc(0), "num_clusters = 0"),
        (lambda: LoRAA2((1, 0)), r"budgets\[1\] = 0"),
        (lambda: FedProx(-1.0), r"proximal_weight = -1\.0"),
        (lambda: MOON(temperature=0.0), r"temperature = 0\.0"),
    ],
)
def test_an_impossible_value_is_refused_by_name(build, told):
    with pytest.raises(ValueError, match=told):
        build()


def test_ranks_that_the_server_was_not_told_are_refused():
    inst = instance(MIXED_RANKS)
    before = spread(inst.state, inst.participants.ranks)
    view = RoundView(0, inst.state, dataclasses.replace(inst.participants, ranks=torch.tensor([3, 3, 3, 3])))
    with pytest.raises(ValueError, match="announce ranks"):
        RBLA().encode(before, before, view)


@pytest.mark.parametrize("case", [case for case in CASES if not case.mixed_ranks], ids=lambda c: c.method)
def test_mixed_ranks_can_be_refused_before_anything_is_trained(case):
    inst = instance(MIXED_RANKS)
    operator = case.build(inst, "change", "orthogonal")
    state = one_cluster(inst.state.layers, inst.scaling, 5) if isinstance(operator, FedInc) else inst.state
    with pytest.raises(ValueError, match=r"participants\.ranks\[1\] = 2"):
        operator.admit(RoundView(0, state, inst.participants))


def test_a_device_without_a_budget_is_refused():
    inst = instance(EQUAL_RANKS)
    with pytest.raises(ValueError, match="device 4 takes part and there are 2 budgets"):
        LoRAA2((1, 1)).admit(RoundView(0, inst.state, inst.participants))


def test_more_clusters_than_participants_and_devices_without_an_angle_are_refused():
    with pytest.raises(ValueError, match="with 4 participants"):
        play(dataclasses.replace(case("fedinc"), build=lambda i, s, r: FedInc(5)), instance(EQUAL_RANKS))
    a, b = tensors(1, (2, 6), (5, 2))
    state = one_cluster({"only": LoRAFactors(a, torch.zeros_like(b))}, CommonScaling(1.0), 2)
    view = RoundView(0, state, participants_of([1.0, 1.0], [2, 2], [0, 1]))
    stack = AdapterStack({"only": LoRAFactors(a, torch.zeros_like(b)).expand(2)}, torch.tensor([2, 2]))
    operator = FedInc(1)
    with pytest.raises(ValueError, match="learned nothing"):
        aggregate(operator, operator.encode(stack, stack, view), view)


def test_hetlora_has_no_weights_before_training_and_colr_no_basis_beyond_the_short_side():
    inst = instance(EQUAL_RANKS)
    view = RoundView(0, inst.state, inst.participants)
    with pytest.raises(ValueError, match="no weights before"):
        HetLoRA().air_weights(torch.zeros(4, 2), view)
    a, b = tensors(1, (4, 3), (6, 4))
    with pytest.raises(ValueError, match="rank up to 3"):
        CoLR(RandomStreams(1)).start(AdapterState({"only": LoRAFactors(a, b)}, CommonScaling(1.0)))


def test_hetlora_weights_follow_the_norms_and_reach_the_server():
    inst = instance(MIXED_RANKS)
    view = RoundView(0, inst.state, inst.participants)
    weights = HetLoRA().air_weights(torch.tensor([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0], [2.0, 3.0]]), view)
    torch.testing.assert_close(weights, torch.tensor([0.125, 0.25, 0.375, 0.25], dtype=torch.float64))
    assert torch.equal(with_weights(view, weights).participants.weights, weights)
