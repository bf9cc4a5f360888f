"""The laws that every method on adapters keeps, each with the error it is kept to."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.conformance import oracle
from airsim.learn.conformance.cases import Case, Cost
from airsim.learn.conformance.instance import (
    EQUAL_RANKS,
    LARGEST_SITS_OUT,
    MIXED_RANKS,
    PRESENT,
    RANK,
    SHAPES,
    Instance,
    instance,
    largest_error,
)
from airsim.learn.conformance.play import Round, play, uploads
from airsim.learn.operators.base import OnAir, uplink_reals
from airsim.learn.operators.clustered import FedInc

EXACT = 1e-12
# Methods that broadcast the best approximation of what they average, and those that leave devices their B.
TRUNCATIONS = ("flexlora", "sp")
PERSONAL = ("fedsa-lora",)


@dataclass(frozen=True)
class LawResult:
    """How far a method is from a law, and how far it may be."""

    method: str
    law: str
    error: float
    tolerance: float = EXACT

    @property
    def holds(self) -> bool:
        """Whether the law is kept; an error that is not a number is none that is small."""
        return self.error <= self.tolerance


def adapter_laws(case: Case) -> Iterator[LawResult]:
    """All laws of one method, each with its largest error over rounds, ranks, and what is sent."""
    instances = [instance(EQUAL_RANKS)] + ([instance(MIXED_RANKS)] if case.mixed_ranks else [])
    for law, tolerance, errors in _errors(case, list(itertools.product(instances, case.rounds))):
        yield LawResult(case.method, law, max(errors), tolerance)
    if not case.mixed_ranks:
        yield LawResult(case.method, "refuses mixed ranks", refusal_error(case), 0.0)


def _errors(case: Case, rounds: list[tuple[Instance, int]]) -> Iterator[tuple[str, float, Iterable[float]]]:
    plays = [[play(case, *how, sends) for sends in case.choices] for how in rounds]
    dense = [
        [play(case, *how, sends, "dense") for sends in case.choices if case.has_routes] for how in rounds
    ]
    every = list(itertools.chain(*plays))
    yield "equals its definition", EXACT, map(definition_error, every)
    if case.exact:
        yield "loses nothing of the mean product", EXACT, map(loss_error, every)
    if case.method in TRUNCATIONS:
        yield "truncates as Eckart and Young", EXACT, map(truncation_error, every)
    if len(case.choices) > 1:
        yield "change and factors give the same", EXACT, (difference(*pair) for pair in plays)
    if case.has_routes:
        pairs = zip(every, itertools.chain(*dense), strict=True)
        yield "dense sum and single uploads agree", EXACT, (difference(*pair) for pair in pairs)
    yield "sends in chunks what it sends at once", 0.0, map(chunk_error, every)
    yield "trains on its own objective", EXACT, map(objective_error, every)
    yield "counts what is sent", 0.0, map(count_error, every)
    yield "costs what its definition says", 0.0, map(cost_error, [*every, *itertools.chain(*dense)])
    absent = [play(case, instance(LARGEST_SITS_OUT), case.rounds[0])] if case.mixed_ranks else []
    heard = [*every, *itertools.chain(*dense), *absent]
    yield "broadcasts once what all need", EXACT, map(broadcast_error, heard)
    if case.method in PERSONAL:
        yield "personal B stays on its device", 0.0, map(personal_error, every)


def definition_error(played: Round) -> float:
    """Largest distance between a device's weights and those of the definition, absent devices included."""
    facts = played.facts
    model = played.case.model
    return max(
        largest_error(played.models[device], {name: model(facts, device, name) for name in SHAPES})
        for device in range(played.inst.num_devices)
    )


def loss_error(played: Round) -> float:
    """Distance between a participant's update and the mean product."""
    facts = played.facts
    ideal = {name: facts.base[name] + oracle.mean_update(facts.devices, name) for name in SHAPES}
    return max(largest_error(played.models[device], ideal) for device in PRESENT)


def truncation_error(played: Round) -> float:
    """Distance from the mean product beyond the least one that the device's rank allows."""
    facts = played.facts
    errors = []
    for device in range(played.inst.num_devices):
        for name, weight in played.models[device].items():
            mean = oracle.mean_update(facts.devices, name)
            distance = np.linalg.norm(weight - facts.base[name] - mean)
            least = oracle.tail_norm(mean, facts.ranks[device])
            errors.append(abs(float(distance) - least) / float(np.linalg.norm(mean)))
    return max(errors)


def chunk_error(played: Round) -> float:
    """Difference between payloads, masks and control numbers of one chunk and of two."""
    view, parts = played.view, []
    for rows in ((0,), (1, 2, 3)):
        chunk = view.take(rows)
        parts.append(played.operator.encode(played.before.take(rows), played.after.take(rows), chunk))
    whole = played.sent
    payload, sent = torch.cat([part.payload for part in parts]), torch.cat([part.sent for part in parts])
    same = torch.equal(payload, whole.payload) and torch.equal(sent, whole.sent)
    counts = torch.cat([part.control_reals for part in parts])
    return 0.0 if same and torch.equal(counts, whole.control_reals) else 1.0


def count_error(played: Round) -> float:
    """Numbers that are counted and not sent, or sent and not counted. Random entries are never 0."""
    entries = ((played.sent.payload != 0) != played.sent.sent).sum()
    told = [played.operator.control_reals(played.view.state, device) for device in PRESENT]
    return float(entries + (played.sent.control_reals - torch.tensor(told)).abs().sum())


def objective_error(played: Round) -> float:
    """Largest distance between what training adds to a gradient and the slope of the definition's term."""
    held = played.inst.kept
    term = played.operator.local_term(held, range(played.inst.num_devices))
    devices = uploads(held, [float("nan")] * played.inst.num_devices)
    errors = [0.0]
    for name, factors in held.layers.items():
        found = None if term is None else term.of(name, range(len(devices)), factors, factors)
        for row, device in enumerate(devices):
            for letter, wanted in zip("ba", played.case.local_term(device, name), strict=True):
                added = np.zeros_like(wanted)
                if found is not None:
                    own = getattr(found, letter)[row].numpy()
                    added = own[:, : wanted.shape[1]] if letter == "b" else own[: wanted.shape[0]]
                    errors.append(float(np.abs(own).sum() - np.abs(added).sum()))
                errors.append(float(np.abs(added - wanted).max()))
    return max(errors)


def personal_error(played: Round) -> float:
    """Devices that lose their own B, and payload entries that depend on it."""
    layers = {name: LoRAFactors(f.a, f.b.flip(0)) for name, f in played.after.layers.items()}
    swapped = AdapterStack(layers, played.after.ranks)
    sent = played.operator.encode(played.before, swapped, played.view)
    wrong = float((sent.payload != played.sent.payload).sum())
    for name, held in played.held.layers.items():
        wrong += float((held.b != played.kept.layers[name].b).sum())
    return wrong


def refusal_error(case: Case) -> float:
    """1 unless a round with mixed ranks is refused by name of the rank."""
    try:
        play(case, instance(MIXED_RANKS), case.rounds[0])
    except ValueError as error:
        return 0.0 if "mixed ranks" in str(error) else 1.0
    return 1.0


def cost_error(played: Round) -> float:
    """Reals sent, up, down and through the air, beyond or below those of the definition."""
    case, ranks = played.case, played.view.participants.ranks.tolist()
    uploads = played.sent.upload_reals.tolist()
    if played.route == "dense":
        extra = sum(outputs * inputs for outputs, inputs in SHAPES.values())
        factors = _cost(case.upload, RANK, ranks, 0) if case.sends_factors_too else 0
        return float(sum(abs(upload - extra - factors) for upload in uploads))
    broadcasts = played.operator.broadcast_reals(played.update, played.view).tolist()
    error = 0
    for rank, upload, broadcast in zip(ranks, uploads, broadcasts, strict=True):
        error += abs(_cost(case.upload, rank, ranks, upload) - upload)
        error += abs(_cost(case.broadcast, rank, ranks, broadcast) - broadcast)
    if played.operator.on_air is not OnAir.NONLINEAR:
        on_air = _cost(case.upload or case.broadcast, RANK, ranks, 0)
        error += abs(on_air - uplink_reals(played.operator.on_air, played.sent))
    return float(error)


def broadcast_error(played: Round) -> float:
    """What devices need and is not broadcast, what is broadcast and nobody needs, and miscounted reals.

    A device, also one that sits out, needs a part of one of the tensors, the first rows and columns, but for
    its scale.
    """
    operator, update, view = played.operator, played.update, played.view
    largest = int(played.kept.ranks.max())
    heard = list(operator.on_downlink(update, view, largest).values())
    everybody = view if isinstance(operator, FedInc) else played.listeners
    rows = range(len(everybody.participants.devices))
    needed = [tensor for row in rows for tensor in operator.downlink(update, everybody, row).values()]
    missing = max(min(map(partial(_unlike, tensor), heard), default=1.0) for tensor in needed)
    spare = sum(all(_unlike(tensor, one) > EXACT for tensor in needed) for one in heard)
    counted = operator.broadcast_entries(update, view, largest)
    error = abs(counted - sum(tensor.numel() for tensor in heard))
    if played.route == "orthogonal":
        ranks = view.participants.ranks.tolist()
        wanted = _cost(played.case.broadcast, largest, ranks, counted)
        error += abs(counted - wanted * played.case.broadcasts)
    return float(missing + spare + error)


def _unlike(needed: torch.Tensor, heard: torch.Tensor) -> float:
    """How far a tensor is from the first rows and columns of another, in the best scale of these."""
    if needed.ndim != heard.ndim or any(n > h for n, h in zip(needed.shape, heard.shape, strict=True)):
        return 1.0
    part = heard[tuple(slice(size) for size in needed.shape)]
    scale = (part * needed).sum() / (part * part).sum()
    return float((needed - scale * part).norm() / needed.norm())


def _cost(cost: Cost | None, rank: int, ranks: list[int], counted: int) -> int:
    if cost is None:
        return counted
    return sum(cost(outputs, inputs, rank, ranks) for outputs, inputs in SHAPES.values())


def difference(one: Round, two: Round) -> float:
    """Largest distance between a device's weights after one round and after another."""
    return max(largest_error(*pair) for pair in zip(one.models, two.models, strict=True))
