"""What a round costs, counted before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airsim.builders import bases, methods, text_methods, texts
from airsim.builders.data import build_data
from airsim.builders.radio import NORMALISATIONS
from airsim.builders.rounds import build_draw
from airsim.learn.adapter_stack import AdapterStack
from airsim.learn.adapters import LoRAFactors, payload_size
from airsim.learn.federated.base import AbstractLearner, weighted_view
from airsim.learn.models.base import AbstractModel
from airsim.learn.operators.base import OnAir, RoundView, participants_of
from airsim.learn.operators.full_model import ModelStack
from airsim.learn.pretraining import random_base
from airsim.orthogonal import symbols_of
from airsim.radio import num_symbols
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario, locates_errors
from airsim.scenario.learning import ImageData
from airsim.scenario.texts import Transformer


@dataclass(frozen=True)
class RoundCosts:
    """Channel uses of round 0, and real numbers: on the control channel, and of the broadcasts around it."""

    channel_uses: int
    control_reals: int
    first_broadcast: int
    broadcast: int


def round_costs(
    learner: AbstractLearner[Any], data_sizes: list[int], participants: Sequence[int], statistics_reals: int
) -> RoundCosts:
    """Costs of a round of these devices in which everything that is sent has changed a little.

    `statistics_reals` are what the normalisation needs to be told of a payload.
    """
    state, operator, devices = learner.start(), learner.operator, list(participants)
    held = state.held.take(devices)
    ranks = state.held.ranks.tolist() if isinstance(held, AdapterStack) else [1 for _ in data_sizes]
    view = RoundView(0, state.server, participants_of([float(size) for size in data_sizes], ranks, devices))
    sent = operator.encode(held, _moved(held), view)
    weighted = weighted_view(operator, sent, view)
    if operator.on_air is OnAir.NONLINEAR:
        uses, received = int(symbols_of(sent.sent).sum()), sent.payload
    else:
        uses = num_symbols(sent.payload.shape[1])
        received = weighted.participants.weights.to(sent.payload) @ sent.payload
    update = operator.decode(received, weighted)
    broadcast = operator.broadcast_entries(update, weighted, max(ranks))
    told = sum(statistics_reals + operator.control_reals(state.server, device) for device in devices)
    return RoundCosts(uses, told, learner.broadcast_entries(state), broadcast)


@locates_errors
def method_costs(scenario: Scenario) -> RoundCosts:
    """What a round costs with a method that trains between uploads; no base is pretrained for it."""
    streams = RandomStreams(scenario.seed)
    data, config = build_data(scenario, streams), scenario.learning.model
    if isinstance(config, Transformer):
        network = text_methods.network_for(scenario, config)
        lazy = network.model_copy(update={"keep_lower_layers": False})
        model: AbstractModel = texts.build_transformer(lazy, data, streams)
    else:
        assert isinstance(scenario.learning.data, ImageData)
        model = random_base(bases.base_plan(config, scenario.learning.data), streams)
    learner = methods.build_learner(scenario, data, model, streams)
    draw = build_draw(scenario)
    participants = range(scenario.num_devices) if draw is None else draw(0)
    reals = NORMALISATIONS[scenario.uplink.normalisation].reals
    return round_costs(learner, [split.size for split in data.devices], participants, reals)


def gradient_control_reals(scenario: Scenario, sizes: tuple[int, int]) -> int:
    """What a device tells of its shared and its personal payload of these sizes; nothing of an empty one."""
    return NORMALISATIONS[scenario.uplink.normalisation].reals * sum(size > 0 for size in sizes)


@locates_errors
def adapter_sizes(scenario: Scenario) -> tuple[int, int]:
    """Real entries of the shared and of a personal payload: ``(I + O) R`` summed over the layers.

    Trained heads count among the personal entries; a network has to be loaded to know them.
    """
    config = scenario.learning.model
    if isinstance(config, Transformer):
        streams = RandomStreams(scenario.seed)
        data = build_data(scenario, streams)
        lazy = config.model_copy(update={"keep_lower_layers": False})
        network = texts.build_transformer(lazy, data, streams)
        adapters = texts.text_adapters(scenario, config, network, len(data.tests), streams)
        return payload_size(adapters.shared), payload_size(adapters.personal)
    own = scenario.learning.adapters
    assert isinstance(scenario.learning.data, ImageData)
    plan = bases.base_plan(config, scenario.learning.data)
    ends = sum(sum(shape) for shape in plan.adapted_shapes.values())
    return ends * own.shared_rank, ends * own.personal_rank


def _moved(held: AdapterStack | ModelStack) -> AdapterStack | ModelStack:
    """What devices would hold after a step that changes every entry."""
    if isinstance(held, ModelStack):
        parts = (held.parameters, held.private)
        return ModelStack(*({name: x + 1e-3 for name, x in part.items()} for part in parts))
    layers = {name: LoRAFactors(f.a + 1e-3, f.b + 1e-3) for name, f in held.layers.items()}
    return AdapterStack(layers, held.ranks).truncate(held.ranks)
