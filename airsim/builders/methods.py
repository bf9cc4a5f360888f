"""Methods that average what devices have trained: from a scenario to their operator and learner."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from airsim.builders import text_methods
from airsim.errors import ScenarioError, blaming
from airsim.learn.adapter_stack import AbstractScaling, CommonScaling, RankScaling, stack_common
from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.data.tasks import FederatedData
from airsim.learn.federated.adapters import AdapterFederation, AdapterLearner
from airsim.learn.federated.base import AbstractLearner
from airsim.learn.federated.full_training import FullTraining
from airsim.learn.federated.local_terms import AbstractLocalTerm, ContrastiveTerm, ProximalTerm
from airsim.learn.federated.models import ModelLearner
from airsim.learn.models.base import AbstractModel
from airsim.learn.models.staged import AbstractStagedModel
from airsim.learn.models.trainable import AbstractTrainable
from airsim.learn.models.transformer import TransformerModel
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.clustered import FedInc, one_cluster
from airsim.learn.operators.factor_averaging import RBLA, FactorAveraging, HetLoRA, ZeroPadding
from airsim.learn.operators.factor_stacking import FactorStacking
from airsim.learn.operators.fresh_basis import CoLR
from airsim.learn.operators.full_model import MOON, FedAvg, FedProx, Scaffold
from airsim.learn.operators.personal_factor import FedSALoRA
from airsim.learn.operators.product_averaging import BaseDroppingAveraging, ProductAveraging
from airsim.learn.operators.rank_selection import LoRAA2
from airsim.learn.operators.residual import FedExLoRA, LoRAFAIR
from airsim.learn.optimisers import SGD, AbstractOptimiser, AdamW, Momentum
from airsim.learn.schedules import LocalSchedule
from airsim.learn.training import LocalTraining
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario
from airsim.scenario.aggregation import FULL_MODEL_METHODS
from airsim.scenario.texts import Transformer


def build_learner(
    scenario: Scenario, data: FederatedData, model: AbstractModel, streams: RandomStreams
) -> AbstractLearner[Any]:
    """The learner of any method but that of gradients."""
    if scenario.aggregation.method in FULL_MODEL_METHODS:
        return _model_learner(scenario, data, _trainable(scenario, model), streams)
    return _adapter_learner(scenario, data, model, streams)


def build_optimiser(scenario: Scenario) -> AbstractOptimiser:
    """What devices step with."""
    training, rate = scenario.learning.training, scenario.learning.learning_rate
    if training.optimiser == "momentum":
        return Momentum(rate, training.momentum, training.weight_decay)
    if training.optimiser == "adamw":
        return AdamW(rate, weight_decay=training.weight_decay)
    return SGD(rate, training.weight_decay)


def device_ranks(scenario: Scenario) -> list[int]:
    """The adapter rank of every device: the ranks given, in turn, or the common one."""
    given = scenario.learning.adapters.device_ranks or (scenario.learning.adapters.shared_rank,)
    return [given[device % len(given)] for device in range(scenario.num_devices)]


def local_flops(scenario: Scenario, data: FederatedData, model: AbstractModel) -> Callable[[int, int], int]:
    """Floating point operations of a device's local training in a round, by device and rank.

    MOON passes each batch through two more models, the global and the device's previous one, without a
    gradient.
    """
    schedule = _schedule(scenario)
    samples = [_samples(schedule, split.size) for split in data.devices]
    if scenario.aggregation.method in FULL_MODEL_METHODS:
        trainable = _trainable(scenario, model)
        cost = trainable.full_flops_per_sample()
        if scenario.aggregation.method == "moon":
            cost += 2 * trainable.forward_flops_per_sample()
        return lambda device, rank: cost * samples[device]
    per_sample = cache(model.flops_per_sample)
    return lambda device, rank: per_sample(rank) * samples[device]


def _schedule(scenario: Scenario) -> LocalSchedule:
    training = scenario.learning.training
    return LocalSchedule(scenario.learning.batch, training.epochs, training.local_steps)


def _samples(schedule: LocalSchedule, size: int) -> int:
    """Samples that a device passes through its model in a round."""
    if schedule.epochs is not None:
        return schedule.epochs * size
    return schedule.steps_of(size) * schedule.batch_of(size)


def _adapter_learner(
    scenario: Scenario, data: FederatedData, model: AbstractModel, streams: RandomStreams
) -> AdapterLearner:
    config, training = scenario.learning.adapters, scenario.learning.training
    scaling: AbstractScaling = CommonScaling(config.scale)
    if config.alpha is not None:
        scaling = RankScaling(config.alpha)
    with blaming("learning.adapters.shared_rank", "aggregation.method", "learning.model.hidden"):
        _require_basis(scenario.aggregation.method, model, config.shared_rank)
    ranks = AdapterRanks(config.shared_rank, 0)
    start = initial_adapters(model.layer_shapes, len(data.tests), ranks, config.init_scale, streams)
    layers = start.to(data.device).shared
    server: Any = AdapterState(layers, scaling)
    if scenario.aggregation.method == "fedinc":
        server = one_cluster(layers, scaling, scenario.num_devices)
    operator = ADAPTER_METHODS[scenario.aggregation.method](scenario, model, streams)
    if text_methods.trains_heads(scenario):
        operator, model, server = text_methods.with_heads(scenario, operator, model, server)
        layers = dict(server.layers)
    held = stack_common(layers, torch.tensor(device_ranks(scenario)))
    return AdapterLearner(
        operator=operator,
        training=LocalTraining(model, config.scale, _schedule(scenario), build_optimiser(scenario)),
        data=data,
        streams=streams,
        initial=AdapterFederation(model, server, held),
        learning_rate=scenario.learning.learning_rate,
        keep_memory=training.keep_state,
    )


def _require_basis(method: str, model: AbstractModel, rank: int) -> None:
    """Refuse a rank for which colr finds no orthonormal basis."""
    for name, shape in model.layer_shapes.items():
        short = min(shape.inputs, shape.outputs)
        if method == "colr" and rank > short:
            raise ScenarioError(
                f"colr needs {rank} basis vectors on the short side of {name}, which has {short} entries; "
                f"choose a rank up to {short}, or another method"
            )


def _trainable(scenario: Scenario, model: AbstractModel) -> AbstractTrainable:
    """The model with its own parameters to be trained."""
    if isinstance(model, TransformerModel):
        assert isinstance(scenario.learning.model, Transformer)
        return text_methods.trainable_network(scenario.learning.model, model)
    assert isinstance(model, AbstractStagedModel)
    return model


def _model_learner(
    scenario: Scenario, data: FederatedData, model: AbstractTrainable, streams: RandomStreams
) -> ModelLearner:
    config = scenario.aggregation
    operator: Any = FedAvg(config.sends)
    term = AbstractLocalTerm()
    if config.method == "fedprox":
        operator, term = FedProx(config.proximal_weight, config.sends), ProximalTerm(config.proximal_weight)
    if config.method == "scaffold":
        operator = Scaffold(scenario.num_devices)
    if config.method == "moon":
        operator = MOON(config.contrastive_weight, config.temperature, config.sends)
        # Representations do not depend on the head, and so on no task.
        term = ContrastiveTerm(config.contrastive_weight, config.temperature, model.forward_with)
    return ModelLearner(
        operator=operator,
        training=FullTraining(model, _schedule(scenario), build_optimiser(scenario), term),
        data=data,
        streams=streams,
        base=model,
        learning_rate=scenario.learning.learning_rate,
        keep_memory=scenario.learning.training.keep_state,
    )


def _route(scenario: Scenario) -> Any:
    return "dense" if scenario.uplink.nonlinear == "dense" else "orthogonal"


Maker = Callable[[Scenario, AbstractModel, RandomStreams], Any]
ADAPTER_METHODS: dict[str, Maker] = {
    "ps": lambda s, model, streams: FactorAveraging(s.aggregation.sends),
    "fedit": lambda s, model, streams: FactorAveraging(s.aggregation.sends),
    "zero-padding": lambda s, model, streams: ZeroPadding(s.aggregation.sends),
    "hetlora": lambda s, model, streams: HetLoRA(
        s.aggregation.sends, s.aggregation.kept_share, s.aggregation.tail_weight
    ),
    "rbla": lambda s, model, streams: RBLA(s.aggregation.sends),
    "ffa-lora": lambda s, model, streams: FFALoRA(s.aggregation.sends),
    "rolora": lambda s, model, streams: RoLoRA(s.aggregation.b_rounds, s.aggregation.sends),
    "fedsa-lora": lambda s, model, streams: FedSALoRA(s.aggregation.sends),
    "colr": lambda s, model, streams: CoLR(streams, s.aggregation.sends),
    "lora-a2": lambda s, model, streams: LoRAA2(
        (s.aggregation.budget,) * s.num_devices, s.aggregation.b_rounds
    ),
    "sp": lambda s, model, streams: ProductAveraging(s.aggregation.split, _route(s), s.aggregation.sends),
    "flexlora": lambda s, model, streams: ProductAveraging(
        s.aggregation.split, _route(s), s.aggregation.sends
    ),
    "sp-base-dropping": lambda s, model, streams: BaseDroppingAveraging(
        model.base_weights, s.aggregation.split, _route(s), s.aggregation.sends
    ),
    "flora": lambda s, model, streams: FactorStacking(
        streams, s.learning.adapters.init_scale, _route(s), s.aggregation.sends
    ),
    "fedex-lora": lambda s, model, streams: FedExLoRA(_route(s), s.aggregation.sends),
    "lora-fair": lambda s, model, streams: LoRAFAIR(
        s.aggregation.distance, route=_route(s), sends=s.aggregation.sends
    ),
    "fedinc": lambda s, model, streams: FedInc(s.aggregation.clusters, s.aggregation.sends),
}
