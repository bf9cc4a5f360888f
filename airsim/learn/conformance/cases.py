"""Which operator stands for which definition, on which ranks, and what it may cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airsim.learn.conformance import definitions
from airsim.learn.conformance.definitions import LocalTerm, Model
from airsim.learn.conformance.instance import RANK, Instance
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.base import AbstractAggregationOperator, Sends
from airsim.learn.operators.clustered import FedInc
from airsim.learn.operators.factor_averaging import RBLA, FactorAveraging, HetLoRA, ZeroPadding
from airsim.learn.operators.factor_stacking import FactorStacking
from airsim.learn.operators.fresh_basis import CoLR
from airsim.learn.operators.personal_factor import FedSALoRA
from airsim.learn.operators.product_averaging import BaseDroppingAveraging, ProductAveraging
from airsim.learn.operators.products import Route
from airsim.learn.operators.rank_selection import LoRAA2
from airsim.learn.operators.residual import FedExLoRA, LoRAFAIR

AnyOperator = AbstractAggregationOperator[Any, Any]
Build = Callable[[Instance, Sends, Route], AnyOperator]
# Reals per matrix and round of one device: outputs, inputs, the device's rank, the ranks of all participants.
Cost = Callable[[int, int, int, Sequence[int]], int]


@dataclass(frozen=True)
class Case:
    """A method under test: how to build it, what it must give, whether ranks may differ, and its costs.

    Costs are those of the orthogonal route, and None leaves one to the count of the tensors; on the dense
    route `sends_factors_too` says that factors travel beside the products. `rounds` are tried one by one;
    `choices` are the two things to send, where a method has the choice. `local_term` is what training adds
    to the gradients, `broadcasts` how many adapters are sent down for all to hear.
    """

    method: str
    build: Build
    model: Model
    mixed_ranks: bool
    exact: bool = False
    upload: Cost | None = None
    broadcast: Cost | None = None
    has_routes: bool = False
    sends_factors_too: bool = False
    choices: tuple[Sends, ...] = ("change", "factors")
    rounds: tuple[int, ...] = (0, 1)
    local_term: LocalTerm = definitions.no_pull
    broadcasts: int = 1


def _both(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return rank * (outputs + inputs)


def _b(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return rank * outputs


def _a(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return rank * inputs


def _long_side(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return rank * max(outputs, inputs)


def _full_long_side(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return RANK * max(outputs, inputs)


def _stack(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return sum(ranks) * (outputs + inputs)


def _residual(outputs: int, inputs: int, rank: int, ranks: Sequence[int]) -> int:
    return rank * (outputs + inputs) + min(outputs * inputs, (len(ranks) - 1) * rank * (outputs + inputs))


def _fair(distance: str) -> Build:
    def build(inst: Instance, sends: Sends, route: Route) -> AnyOperator:
        return LoRAFAIR(
            "cosine" if distance == "cosine" else "squared",
            definitions.FAIR_STRENGTH,
            definitions.FAIR_STEPS,
            definitions.FAIR_RATE,
            route,
            sends,
        )

    return build


CASES = (
    Case(
        "ps",
        lambda i, s, r: FactorAveraging(s),
        definitions.factor_averaging,
        False,
        upload=_both,
        broadcast=_both,
    ),
    Case(
        "fedit",
        lambda i, s, r: FactorAveraging(s),
        definitions.factor_averaging,
        False,
        upload=_both,
        broadcast=_both,
    ),
    Case(
        "flexlora",
        lambda i, s, r: ProductAveraging("left", r, s),
        definitions.product_averaging,
        True,
        upload=_both,
        broadcast=_both,
        has_routes=True,
    ),
    Case(
        "sp",
        lambda i, s, r: ProductAveraging("even", r, s),
        definitions.product_averaging,
        True,
        upload=_both,
        broadcast=_both,
        has_routes=True,
    ),
    Case(
        "sp-base-dropping",
        lambda i, s, r: BaseDroppingAveraging(i.base, "left", r, s),
        definitions.base_dropping,
        True,
        upload=_both,
        broadcast=_both,
        has_routes=True,
    ),
    Case(
        "flora",
        lambda i, s, r: FactorStacking(i.streams, 1.0, r, s),
        definitions.ideal,
        True,
        exact=True,
        upload=_both,
        broadcast=_stack,
        has_routes=True,
    ),
    Case(
        "zero-padding",
        lambda i, s, r: ZeroPadding(s),
        definitions.zero_padding,
        True,
        upload=_both,
        broadcast=_both,
    ),
    Case(
        "hetlora",
        lambda i, s, r: HetLoRA(s, definitions.KEPT_SHARE, definitions.TAIL_WEIGHT),
        definitions.hetlora,
        True,
        upload=_both,
        broadcast=_both,
        local_term=definitions.tail_decay,
    ),
    Case("rbla", lambda i, s, r: RBLA(s), definitions.rbla, True, upload=_both, broadcast=_both),
    Case(
        "ffa-lora", lambda i, s, r: FFALoRA(s), definitions.ideal, False, exact=True, upload=_b, broadcast=_b
    ),
    Case(
        "rolora (B)",
        lambda i, s, r: RoLoRA("even", s),
        definitions.ideal,
        False,
        exact=True,
        upload=_b,
        broadcast=_b,
        rounds=(0,),
    ),
    Case(
        "rolora (A)",
        lambda i, s, r: RoLoRA("even", s),
        definitions.ideal,
        False,
        exact=True,
        upload=_a,
        broadcast=_a,
        rounds=(1,),
    ),
    Case("fedsa-lora", lambda i, s, r: FedSALoRA(s), definitions.personal_b, True, upload=_a, broadcast=_a),
    Case(
        "fedex-lora",
        lambda i, s, r: FedExLoRA(r, s),
        definitions.ideal,
        False,
        exact=True,
        upload=_both,
        broadcast=_residual,
        has_routes=True,
        sends_factors_too=True,
    ),
    Case(
        "lora-fair (squared)",
        _fair("squared"),
        definitions.fair_squared,
        False,
        upload=_both,
        broadcast=_both,
        has_routes=True,
        sends_factors_too=True,
    ),
    Case(
        "lora-fair (cosine)",
        _fair("cosine"),
        definitions.fair_cosine,
        False,
        upload=_both,
        broadcast=_both,
        has_routes=True,
        sends_factors_too=True,
        rounds=(0,),
    ),
    Case(
        "colr",
        lambda i, s, r: CoLR(i.streams, s),
        definitions.fresh_basis,
        True,
        upload=_long_side,
        broadcast=_full_long_side,
    ),
    Case(
        "lora-a2 (B)",
        lambda i, s, r: LoRAA2(definitions.BUDGETS),
        definitions.rank_selection,
        False,
        broadcast=_b,
        choices=("change",),
        rounds=(0, 2),
    ),
    Case(
        "lora-a2 (A)",
        lambda i, s, r: LoRAA2(definitions.BUDGETS),
        definitions.rank_selection,
        False,
        broadcast=_a,
        choices=("change",),
        rounds=(1,),
    ),
    Case(
        "fedinc",
        lambda i, s, r: FedInc(definitions.NUM_CLUSTERS, s),
        definitions.clustered,
        False,
        upload=_both,
        broadcast=_both,
        broadcasts=definitions.NUM_CLUSTERS,
    ),
)
