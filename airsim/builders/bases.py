"""Scenarios of images: from the model of a scenario to its frozen base."""

import math
import os
from pathlib import Path

import pooch

from airsim.errors import blaming
from airsim.learn.data.sources import FORMATS
from airsim.learn.data.tasks import FederatedData
from airsim.learn.models.convolution import ImageShape, Window
from airsim.learn.models.plans import AbstractPlan, CnnPlan, MlpPlan
from airsim.learn.models.staged import AbstractStagedModel
from airsim.learn.pretraining import PretrainingSpec, load_base, pretrain_base, random_base
from airsim.randomness import RandomStreams
from airsim.scenario.learning import Cnn, ImageData, Mlp


def base_plan(config: Mlp | Cnn, data: ImageData) -> AbstractPlan:
    """The sizes of the model, from pixels to classes."""
    facts = FORMATS[data.name]
    if isinstance(config, Mlp):
        return MlpPlan((facts.num_features, *config.hidden, facts.num_classes))
    side = math.isqrt(facts.num_features)
    window = Window(config.kernel, config.stride, config.padding)
    return CnnPlan(
        ImageShape(1, side, side),
        window,
        config.channels,
        config.hidden,
        facts.num_classes,
        config.adapted_layers,
    )


def build_base(
    config: Mlp | Cnn, plan: AbstractPlan, data: FederatedData, streams: RandomStreams
) -> AbstractStagedModel:
    """The frozen base: pretrained on the public split, random, or from a file."""
    if config.base.kind == "file":
        with blaming("learning.model.base.path", "learning.model.hidden"):
            return load_base(Path(config.base.path), plan)
    if config.base.kind == "random":
        return random_base(plan, streams)
    spec = PretrainingSpec(
        config.base.steps, config.base.batch, config.base.learning_rate, config.base.momentum
    )
    return pretrain_base(data.public, plan, spec, streams, cache_folder())


def cache_folder() -> Path:
    """Where pretrained bases are kept: `AIRSIM_CACHE_DIR`, or the user's cache."""
    return Path(os.environ.get("AIRSIM_CACHE_DIR") or pooch.os_cache("airsim"))
