"""The laws of methods on full parameters, and of AirPFed-LoRA, whose payloads are gradients."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airsim.learn.adapters import DualAdapters, LoRAFactors, flatten
from airsim.learn.conformance import oracle
from airsim.learn.conformance.instance import DATA_SIZES, PRESENT, largest_error
from airsim.learn.conformance.laws import LawResult
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    RoundView,
    Sends,
    aggregate,
    participants_of,
)
from airsim.learn.operators.full_model import (
    MOON,
    FedAvg,
    FedProx,
    ModelStack,
    ModelState,
    Scaffold,
)
from airsim.randomness import RandomStreams

SHAPES = {"weight": (4, 3), "bias": (4,), "head": (2, 4)}
NUM_DEVICES = len(DATA_SIZES)
SERVER_RATE = 0.7
STREAMS = RandomStreams(1)

Build = Callable[[Sends], AbstractAggregationOperator[ModelStack, ModelState]]


@dataclass(frozen=True)
class ModelCase:
    """A method under test, whether it may send either, and how many models' worth it sends."""

    method: str
    build: Build
    choices: tuple[Sends, ...] = ("change", "factors")
    vectors: int = 1


MODEL_CASES = (
    ModelCase("fedavg", FedAvg),
    ModelCase("fedprox", lambda sends: FedProx(0.1, sends)),
    ModelCase("moon", lambda sends: MOON(1.0, 0.5, sends)),
    ModelCase("scaffold", lambda sends: Scaffold(NUM_DEVICES, SERVER_RATE), ("change",), 2),
)


@dataclass(frozen=True)
class ModelRound:
    """A round with four of five devices; `held` is what all devices start the next one with.

    `broadcast` counts what each participant receives, and last what is sent once for all.
    """

    view: RoundView[ModelState]
    before: ModelStack
    after: ModelStack
    uploaded: Tensor
    broadcast: Tensor
    state: ModelState
    kept: ModelStack
    held: ModelStack


def play_model(case: ModelCase, sends: Sends) -> ModelRound:
    """One round from a state with a control variate that is not 0."""
    operator = case.build(sends)
    start = operator.start(ModelState(draw("model"), {}))
    state = ModelState(start.parameters, {name: x + 1 for name, x in start.control.items()})
    participants = participants_of(DATA_SIZES, [1] * NUM_DEVICES, PRESENT)
    kept = ModelStack(draw("own", NUM_DEVICES), draw("private", NUM_DEVICES))
    before = operator.broadcast(state, rows(kept, PRESENT), PRESENT)
    after = ModelStack(moved(before.parameters, "trained"), moved(before.private, "trained-private"))
    view = RoundView(0, state, participants)
    sent = operator.encode(before, after, view)
    update = aggregate(operator, sent, view)
    kept = ModelStack(put(kept.parameters, after.parameters), put(kept.private, after.private))
    held = operator.broadcast(update.state, kept, range(NUM_DEVICES))
    once = torch.tensor([operator.broadcast_entries(update, view, 1)])
    down = torch.cat((operator.broadcast_reals(update, view), once))
    return ModelRound(view, before, after, sent.upload_reals, down, update.state, kept, held)


def model_laws(case: ModelCase) -> Iterator[LawResult]:
    """All laws of one method on full parameters."""
    played = [play_model(case, sends) for sends in case.choices]
    yield LawResult(case.method, "equals its definition", max(_definition_error(case, r) for r in played))
    if len(played) > 1:
        parameters = [as_numpy(each.state.parameters) for each in played]
        yield LawResult(case.method, "change and factors give the same", largest_error(*parameters))
    size = case.vectors * sum(int(np.prod(shape)) for shape in SHAPES.values())
    costs = [abs(count - size) for r in played for count in (*r.uploaded.tolist(), *r.broadcast.tolist())]
    yield LawResult(case.method, "costs what its definition says", float(max(costs)), 0.0)
    if case.method in ("scaffold", "moon"):
        error = max(_private_error(case, each) for each in played)
        yield LawResult(case.method, "what is private stays on its device", error, 0.0)


def airpfed_laws() -> Iterator[LawResult]:
    """One gradient step per factor: shared over all devices, personal over the devices of a task."""
    tasks, rate = (0, 1, 0, 1, 0), 0.3
    shapes = {"first": ((2, 5), (3, 2)), "second": ((2, 3), (4, 2))}
    shared = {name: _factors(f"shared-{name}", (), pair) for name, pair in shapes.items()}
    personal = {name: _factors(f"personal-{name}", (2,), pair) for name, pair in shapes.items()}
    gradients = {name: _factors(f"gradient-{name}", (NUM_DEVICES,), pair) for name, pair in shapes.items()}
    sizes = torch.tensor(DATA_SIZES, dtype=torch.float64)
    payload = flatten(gradients)
    members = [torch.tensor([own == task for own in tasks]) * sizes for task in (0, 1)]
    totals = torch.stack([weights / weights.sum() @ payload for weights in members])
    after = AirPFedLoRA(rate).apply(DualAdapters(shared, personal), sizes / sizes.sum() @ payload, totals)
    errors = []
    for name in shapes:
        for part in ("a", "b"):
            sent = [x.numpy() for x in getattr(gradients[name], part)]
            everybody = oracle.vector_mean(sent, [size / sum(DATA_SIZES) for size in DATA_SIZES])
            wanted = getattr(shared[name], part).numpy() - rate * everybody
            errors.append(np.abs(getattr(after.shared[name], part).numpy() - wanted).max())
            for task in (0, 1):
                own = [k for k in range(NUM_DEVICES) if tasks[k] == task]
                total = sum(DATA_SIZES[k] for k in own)
                mean = oracle.vector_mean([sent[k] for k in own], [DATA_SIZES[k] / total for k in own])
                wanted = getattr(personal[name], part)[task].numpy() - rate * mean
                errors.append(np.abs(getattr(after.personal[name], part)[task].numpy() - wanted).max())
    yield LawResult("airpfed-lora", "equals its definition", float(max(errors)))
    operator_sizes = AirPFedLoRA(rate).payload_sizes(DualAdapters(shared, personal))
    wrong = abs(operator_sizes.shared - payload.shape[1]) + abs(operator_sizes.personal - payload.shape[1])
    yield LawResult("airpfed-lora", "costs what its definition says", float(wrong), 0.0)


def draw(name: str, num_devices: int | None = None) -> dict[str, Tensor]:
    """Random parameters, of one model or of many devices."""
    stack = () if num_devices is None else (num_devices,)
    return {
        key: torch.from_numpy(STREAMS.generator(name, index).standard_normal((*stack, *shape)))
        for index, (key, shape) in enumerate(SHAPES.items())
    }


def moved(parameters: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Parameters of the participants after some training."""
    steps = draw(name, len(PRESENT))
    return {key: x + steps[key] for key, x in parameters.items()}


def rows(stack: ModelStack, chosen: tuple[int, ...]) -> ModelStack:
    """Some devices of a stack."""
    parts = [
        {name: x[list(chosen)] for name, x in part.items()} for part in (stack.parameters, stack.private)
    ]
    return ModelStack(*parts)


def put(all_devices: Mapping[str, Tensor], participants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of all devices with those of the participants replaced."""
    result = {name: x.clone() for name, x in all_devices.items()}
    for name, x in participants.items():
        result[name][list(PRESENT)] = x
    return result


def as_numpy(parameters: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The same for the oracle."""
    return {name: x.numpy() for name, x in parameters.items()}


def _factors(name: str, stack: tuple[int, ...], shapes: Any) -> LoRAFactors:
    a, b = (STREAMS.generator(name, i).standard_normal((*stack, *shape)) for i, shape in enumerate(shapes))
    return LoRAFactors(torch.from_numpy(a), torch.from_numpy(b))


def _definition_error(case: ModelCase, played: ModelRound) -> float:
    sizes = [DATA_SIZES[k] for k in PRESENT]
    weights = [size / sum(sizes) for size in sizes]
    old, new = as_numpy(played.view.state.parameters), as_numpy(played.after.parameters)
    wanted = {name: oracle.vector_mean(list(new[name]), weights) for name in SHAPES}
    found = as_numpy(played.state.parameters)
    if case.method != "scaffold":
        return largest_error(found, wanted)
    wanted = {name: old[name] + SERVER_RATE * (wanted[name] - old[name]) for name in SHAPES}
    control, own = as_numpy(played.view.state.control), as_numpy(played.before.private)
    next_own = as_numpy(played.after.private)
    wanted_control = {
        name: control[name]
        + len(PRESENT) / NUM_DEVICES * oracle.vector_mean(list(next_own[name] - own[name]), weights)
        for name in SHAPES
    }
    return max(largest_error(found, wanted), largest_error(as_numpy(played.state.control), wanted_control))


def _private_error(case: ModelCase, played: ModelRound) -> float:
    """Entries of a device's private part that are not what the device itself left there."""
    mine = played.kept.private if case.method == "scaffold" else played.kept.parameters
    return float(sum((played.held.private[name] != mine[name]).sum() for name in SHAPES))
