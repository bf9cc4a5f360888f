"""Texts with methods that average what devices have trained: which parameters are theirs, and which heads."""

from dataclasses import replace
from typing import Any

from airsim.learn.models.base import AbstractModel
from airsim.learn.models.common_heads import CommonHeads, head_layer
from airsim.learn.models.heads import HEAD, ClassificationHeads
from airsim.learn.models.trainable_transformer import (
    TrainableTransformer,
    train_adapted_layers,
    train_everything,
)
from airsim.learn.models.transformer import TransformerModel
from airsim.learn.operators.adapter_operator import AdapterState
from airsim.learn.operators.common_heads import AbstractWithHeads, WithCommonHeads, WithPersonalHeads
from airsim.scenario import Scenario
from airsim.scenario.aggregation import FULL_MODEL_METHODS, PERSONAL_HEAD_METHODS
from airsim.scenario.texts import Transformer


def network_for(scenario: Scenario, config: Transformer) -> Transformer:
    """The network as the method takes it: all linear layers are chosen where all parameters are trained."""
    trains_all = config.trained_weights == "all"
    if trains_all and scenario.aggregation.method in FULL_MODEL_METHODS:
        return config.model_copy(update={"adapted_layers": ""})
    return config


def trainable_network(config: Transformer, network: TransformerModel) -> TrainableTransformer:
    """The network with its own parameters to be trained, and its heads where the scenario says so."""
    choose = train_everything if config.trained_weights == "all" else train_adapted_layers
    return choose(network, config.heads == "trained")


def trains_heads(scenario: Scenario) -> bool:
    """Whether devices train heads beside what the method is about."""
    model = scenario.learning.model
    return isinstance(model, Transformer) and model.heads == "trained"


def with_heads(
    scenario: Scenario, method: Any, model: AbstractModel, server: AdapterState
) -> tuple[AbstractWithHeads, AbstractModel, AdapterState]:
    """The same method, network and state with the heads of all tasks among what is trained.

    Those of FedSA-LoRA are personal by its definition; others travel behind the payload.
    """
    assert isinstance(model, TransformerModel) and isinstance(model.objective, ClassificationHeads)
    own = replace(model, objective=CommonHeads(model.objective))
    layers = {**server.layers, HEAD: head_layer(model.objective)}
    if scenario.aggregation.method in PERSONAL_HEAD_METHODS:
        return WithPersonalHeads(method), own, replace(server, layers=layers)
    return WithCommonHeads(method, scenario.aggregation.sends), own, replace(server, layers=layers)
