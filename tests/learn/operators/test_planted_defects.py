"""Defects seen in public implementations, planted one by one: the conformance laws catch each of them."""

import dataclasses
import functools

import pytest
import torch

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.conformance.cases import CASES
from airsim.learn.conformance.definitions import KEPT_SHARE, NUM_CLUSTERS, TAIL_WEIGHT
from airsim.learn.conformance.laws import adapter_laws
from airsim.learn.conformance.model_laws import MODEL_CASES, model_laws
from airsim.learn.corrections import TailDecay
from airsim.learn.operators import (
    adapter_operator,
    base,
    factor_averaging,
    factor_stacking,
    product_averaging,
    products,
    residual,
)
from airsim.learn.operators.alternating import FFALoRA
from airsim.learn.operators.clustered import FedInc
from airsim.learn.operators.factor_averaging import RBLA, FactorAveraging, HetLoRA, ZeroPadding
from airsim.learn.operators.full_model import MOON, ModelStack, Scaffold
from airsim.learn.operators.personal_factor import FedSALoRA
from airsim.learn.operators.product_averaging import ProductAveraging
from airsim.learn.operators.residual import FedExLoRA


def broken_laws(method, build=None):
    """The laws that a method no longer keeps, with another operator in its place if one is given."""
    cases = [dataclasses.replace(case, rounds=case.rounds[:1]) for case in CASES if case.method == method]
    if build is not None:
        cases = [dataclasses.replace(case, build=build) for case in cases]
    return {result.law for case in cases for result in adapter_laws(case) if not result.holds}


DEFINITION, LOSS = "equals its definition", "loses nothing of the mean product"
OBJECTIVE, BROADCAST = "trains on its own objective", "broadcasts once what all need"


def test_without_a_defect_nothing_is_caught():
    assert broken_laws("fedit", lambda i, s, r: FactorAveraging(s)) == set()


def test_an_accumulator_that_keeps_only_the_first_client_is_caught(monkeypatch):
    """The mean equals ``p_0`` times client 0 (misspelt accumulator)."""

    def misspelt(operator, transmission, view):
        weights = view.participants.weights
        return operator.decode(weights[0] * transmission.payload[0], view)

    monkeypatch.setattr("airsim.learn.conformance.play.aggregate", misspelt)
    assert DEFINITION in broken_laws("fedit")


def test_a_scale_that_differs_between_server_and_clients_is_caught(monkeypatch):
    """Raw factors of devices with ``alpha / r_k`` are averaged and scaled as if all had ``alpha / r_max``."""
    monkeypatch.setattr(adapter_operator, "folded", lambda stack, state: stack)
    monkeypatch.setattr(
        factor_averaging, "spread", lambda state, ranks: adapter_operator.stack_common(state.layers, ranks)
    )
    assert DEFINITION in broken_laws("zero-padding")


def test_sending_the_untrained_adapters_is_caught():
    class Untrained(FactorAveraging):
        def encode(self, before, after, view):
            return super().encode(before, before, view)

    assert DEFINITION in broken_laws("fedit", lambda i, s, r: Untrained(s))


@pytest.mark.parametrize("method", ["flexlora", "sp"])
def test_a_root_of_the_singular_values_on_one_side_only_is_caught(monkeypatch, method):
    """``B = U sqrt(S)`` beside ``A = V^T``."""

    def lopsided(product, rank, split):
        u, s, vh = products._svd(product)
        u, s, vh = u[:, :rank], s[:rank], vh[:rank]
        pad = torch.nn.functional.pad
        missing = rank - len(s)
        return LoRAFactors(pad(vh, (0, 0, 0, missing)), pad(u * s.sqrt(), (0, missing)))

    monkeypatch.setattr(product_averaging, "best_rank", lopsided)
    assert {DEFINITION, "truncates as Eckart and Young"} <= broken_laws(method)


def unscaled(layers, view):
    """The weighted product without ``g``."""
    weighted = products.weighted_products(layers, view)
    return {name: LoRAFactors(f.a, f.b / view.state.scale(name)) for name, f in weighted.items()}


def test_a_stacked_product_without_its_scale_is_caught(monkeypatch):
    monkeypatch.setattr(factor_stacking, "weighted_products", unscaled)
    assert {DEFINITION, LOSS} <= broken_laws("flora")


def test_a_residual_without_its_scale_is_caught(monkeypatch):
    true = residual.residual

    def bare(single, mean, view, name):
        factors = true(single, mean, view, name)
        return LoRAFactors(factors.a, factors.b / view.state.scale(name))

    monkeypatch.setattr(residual, "residual", bare)
    assert {DEFINITION, LOSS} <= broken_laws("fedex-lora")


def uniform(view):
    """The same round with equal weights."""
    count = len(view.participants.devices)
    return base.with_weights(view, torch.full((count,), 1 / count, dtype=torch.float64))


def test_a_stack_with_uniform_weights_beside_weighted_ones_is_caught(monkeypatch):
    monkeypatch.setattr(
        factor_stacking, "weighted_products", lambda f, view: products.weighted_products(f, uniform(view))
    )
    assert {DEFINITION, LOSS} <= broken_laws("flora")


def test_a_residual_with_uniform_means_beside_weighted_ones_is_caught(monkeypatch):
    true = residual.mean_of_rows
    monkeypatch.setattr(residual, "mean_of_rows", lambda single, view: true(single, uniform(view)))
    assert {DEFINITION, LOSS} <= broken_laws("fedex-lora")


def test_a_personal_factor_that_leaks_from_client_to_client_is_caught():
    """One model is reused in sequence, so that a device starts from its neighbour's B."""

    class Leaky(FedSALoRA):
        def broadcast(self, state, kept, devices):
            own = super().broadcast(state, kept, devices)
            layers = {name: LoRAFactors(f.a, f.b.roll(1, dims=0)) for name, f in own.layers.items()}
            return AdapterStack(layers, own.ranks).truncate(own.ranks)

    caught = broken_laws("fedsa-lora", lambda i, s, r: Leaky(s))
    assert {DEFINITION, "personal B stays on its device"} <= caught


def test_a_personal_factor_that_is_sent_is_caught():
    class Open(FedSALoRA):
        def encode(self, before, after, view):
            sent = super().encode(before, after, view)
            spill = sum(factors.b.sum(dim=(1, 2)) for factors in after.layers.values())
            return dataclasses.replace(sent, payload=sent.payload + spill[:, None] * sent.sent)

    caught = broken_laws("fedsa-lora", lambda i, s, r: Open(s))
    assert "personal B stays on its device" in caught


@pytest.mark.parametrize("method", ["flexlora", "sp", "sp-base-dropping"])
def test_singular_vectors_of_the_transpose_are_caught(monkeypatch, method):
    """Devices receive the transposed update; where it does not even fit, it is cut and padded to fit."""
    true = products.best_rank

    def transposed(product, rank, split):
        full = product.b @ product.a if isinstance(product, LoRAFactors) else product
        turned = torch.zeros_like(full)
        side = min(full.shape)
        turned[:side, :side] = full[:side, :side].mT
        return true(turned, rank, split)

    monkeypatch.setattr(product_averaging, "best_rank", transposed)
    assert DEFINITION in broken_laws(method)


def test_absent_ranks_that_dilute_are_caught(monkeypatch):
    monkeypatch.setattr(factor_averaging, "mean_of_present", adapter_operator.mean_factors)
    assert DEFINITION in broken_laws("rbla", lambda i, s, r: RBLA(s))


def test_data_weights_in_place_of_norms_are_caught():
    class ByData(HetLoRA):
        def air_weights(self, control, view):
            return view.participants.weights

    assert DEFINITION in broken_laws("hetlora", lambda i, s, r: ByData(s))


def test_a_penalty_on_tails_that_is_left_out_is_caught():
    class Unpressed(HetLoRA):
        def local_term(self, before, devices):
            return None

    build = functools.partial(Unpressed, kept_share=KEPT_SHARE, tail_weight=TAIL_WEIGHT)
    assert broken_laws("hetlora", lambda i, s, r: build(s)) == {OBJECTIVE}


def test_a_penalty_that_presses_on_all_components_is_caught():
    class Everywhere(HetLoRA):
        def local_term(self, before, devices):
            return TailDecay(self.tail_weight, dict.fromkeys(devices, 0))

    build = functools.partial(Everywhere, kept_share=KEPT_SHARE, tail_weight=TAIL_WEIGHT)
    assert broken_laws("hetlora", lambda i, s, r: build(s)) == {OBJECTIVE}


def test_a_frozen_factor_that_travels_is_caught_by_its_cost():
    caught = broken_laws("ffa-lora", lambda i, s, r: FactorAveraging(s))
    assert "costs what its definition says" in caught
    assert "costs what its definition says" not in broken_laws("ffa-lora", lambda i, s, r: FFALoRA(s))


def test_padding_that_is_counted_as_sent_is_caught():
    class Padded(ZeroPadding):
        def encode(self, before, after, view):
            sent = super().encode(before, after, view)
            return dataclasses.replace(sent, sent=torch.ones_like(sent.sent))

    caught = broken_laws("zero-padding", lambda i, s, r: Padded(s))
    assert {"counts what is sent", "costs what its definition says"} <= caught


def test_numbers_on_the_control_channel_that_are_not_charged_are_caught():
    class Silent(HetLoRA):
        def control_reals(self, state, device):
            return 1

    build = functools.partial(Silent, kept_share=KEPT_SHARE, tail_weight=TAIL_WEIGHT)
    assert broken_laws("hetlora", lambda i, s, r: build(s)) == {"counts what is sent"}


def test_mixed_ranks_that_are_silently_accepted_are_caught(monkeypatch):
    monkeypatch.setattr(factor_averaging, "require_common_rank", lambda view, method: None)
    assert broken_laws("fedit") == {"refuses mixed ranks"}


def test_a_residual_that_is_dropped_is_caught():
    class Forgetful(FedExLoRA):
        def decode(self, received, view):
            return base.ServerUpdate(super().decode(received, view).state)

    caught = broken_laws("fedex-lora", lambda i, s, r: Forgetful(r, s))
    assert {DEFINITION, LOSS, "costs what its definition says"} <= caught


def test_a_broadcast_that_is_charged_without_its_residual_is_caught():
    class Cheap(FedExLoRA):
        def on_downlink(self, update, view, largest_rank):
            return super().on_downlink(dataclasses.replace(update, base_increment={}), view, largest_rank)

    assert broken_laws("fedex-lora", lambda i, s, r: Cheap(r, s)) == {BROADCAST}


def test_a_broadcast_of_one_cluster_for_all_is_caught():
    class One(FedInc):
        def on_downlink(self, update, view, largest_rank):
            return self.downlink(update, view, 0)

    assert broken_laws("fedinc", lambda i, s, r: One(NUM_CLUSTERS, s)) == {BROADCAST}


def test_a_broadcast_that_is_charged_for_the_participants_ranks_alone_is_caught():
    class Narrow(ZeroPadding):
        def on_downlink(self, update, view, largest_rank):
            return super().on_downlink(update, view, int(view.participants.ranks.max()))

    assert broken_laws("zero-padding", lambda i, s, r: Narrow(s)) == {BROADCAST}


def test_a_broadcast_of_a_factor_that_nobody_needs_is_caught():
    class Whole(FFALoRA):
        def on_downlink(self, update, view, largest_rank):
            return FactorAveraging().downlink(update, view, 0)

    assert broken_laws("ffa-lora", lambda i, s, r: Whole(s)) == {BROADCAST}


def test_one_singular_component_too_few_is_caught():
    class Short(ProductAveraging):
        def broadcast(self, state, kept, devices):
            held = super().broadcast(state, kept, devices)
            return AdapterStack(held.truncate((held.ranks - 1).clamp(min=1)).layers, held.ranks)

    caught = broken_laws("flexlora", lambda i, s, r: Short("left", r, s))
    assert {DEFINITION, "truncates as Eckart and Young"} <= caught


@pytest.mark.parametrize(
    ("method", "operator"), [("scaffold", Scaffold(5, 0.7)), ("moon", MOON())], ids=["scaffold", "moon"]
)
def test_a_private_model_or_control_that_leaks_is_caught(method, operator):
    class Leaky(type(operator)):
        def broadcast(self, state, kept, devices):
            own = super().broadcast(state, kept, devices)
            return ModelStack(own.parameters, {name: x.roll(1, dims=0) for name, x in own.private.items()})

    case = next(case for case in MODEL_CASES if case.method == method)
    fields = {f.name: getattr(operator, f.name) for f in dataclasses.fields(operator)}
    leaky = dataclasses.replace(case, build=lambda sends: Leaky(**fields), choices=("change",))
    assert "what is private stays on its device" in {r.law for r in model_laws(leaky) if not r.holds}


def test_a_control_variate_that_ignores_absent_devices_is_caught():
    case = next(case for case in MODEL_CASES if case.method == "scaffold")
    wrong = dataclasses.replace(case, build=lambda sends: Scaffold(4, 0.7))
    assert "equals its definition" in {r.law for r in model_laws(wrong) if not r.holds}
