"""Base models: trained on the public split, random, or from a file."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from airsim.errors import DataError, DivergenceError
from airsim.learn.data.tasks import Split
from airsim.learn.models.plans import AbstractPlan
from airsim.learn.models.staged import AbstractStagedModel, Stage
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class PretrainingSpec:
    """Momentum SGD on mini-batches of the public split."""

    steps: int = 400
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9


def random_base(plan: AbstractPlan, streams: RandomStreams) -> AbstractStagedModel:
    """An untrained base: weights uniform in ``+-sqrt(6/fan_in)``, no biases.

    The variance ``2/fan_in`` keeps the size of the signal through rectifiers, without which the adapters of a
    base that is never trained hardly learn. Source: [He15].
    """
    weights, biases = [], []
    for index, (inputs, outputs) in enumerate(plan.shapes.values()):
        rng = streams.generator("base-random", index)
        weights.append(_uniform(rng, np.sqrt(6.0 / inputs), (outputs, inputs)))
        biases.append(torch.zeros(outputs))
    return plan.build(weights, biases)


def pretrain_base(
    public: Split, plan: AbstractPlan, spec: PretrainingSpec, streams: RandomStreams, cache_dir: Path
) -> AbstractStagedModel:
    """A base trained on the public split; taken from the cache where the same training was done before.

    The cache knows a training by its content: data, widths, `spec`, seed and version of torch.

    Raises:
        DivergenceError: the training loss is not finite.
    """
    path = cache_dir / f"base-{_training_digest(public, plan, spec, streams)}.safetensors"
    if path.exists():
        try:
            return load_base(path, plan)
        except DataError as error:
            warnings.warn(f"the cached base is damaged and is trained again: {error}", stacklevel=2)
    model = _train(_untrained(plan, streams), public, spec, streams)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        save_base(model, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"the base is not cached: {error}; set AIRSIM_CACHE_DIR elsewhere", stacklevel=2)
    return model


def save_base(model: AbstractStagedModel, path: Path) -> None:
    """Write a base as safetensors: beside, then renamed, so that no reader meets half a file."""
    tensors = {name: tensor.contiguous() for name, tensor in model.parameters.items()}
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file(tensors, draft)
    draft.replace(path)


def load_base(path: Path, plan: AbstractPlan) -> AbstractStagedModel:
    """A base from safetensors with entries ``layer0.weight`` (outputs, inputs), ``layer0.bias``, and so on.

    A kernel ``conv0.weight`` is a matrix of output channels by patch entries.

    Raises:
        DataError: the file is missing or damaged, or holds a model of other widths.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no base model can be read ({error}); choose another file") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs) in plan.shapes.items():
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        raise DataError(
            f"{path}: holds {found} but the model is {shapes}; "
            "change learning.model.hidden (or channels and kernel), or the file"
        )
    ordered = [tensors[name].float() for name in shapes]
    if not all(tensor.isfinite().all() for tensor in ordered):
        raise DataError(f"{path}: some weights are not finite; write or choose another file")
    return plan.build(ordered[0::2], ordered[1::2])


def base_checksum(path: Path) -> str:
    """SHA-256 of a base file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: no base model can be read ({error}); choose another file") from error


def _training_digest(public: Split, plan: AbstractPlan, spec: PretrainingSpec, streams: RandomStreams) -> str:
    settings = [plan.digest, asdict(spec), streams.seed, torch.__version__]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(public.x.numpy().tobytes())
    digest.update(public.y.numpy().tobytes())
    return digest.hexdigest()[:24]


def _untrained(plan: AbstractPlan, streams: RandomStreams) -> AbstractStagedModel:
    """Where pretraining starts: weights and biases uniform in ``+-1/sqrt(fan_in)``, torch's own default."""
    weights, biases = [], []
    for index, (inputs, outputs) in enumerate(plan.shapes.values()):
        rng, bound = streams.generator("base-init", index), 1.0 / np.sqrt(inputs)
        weights.append(_uniform(rng, bound, (outputs, inputs)))
        biases.append(_uniform(rng, bound, (outputs,)))
    return plan.build(weights, biases)


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32))


def _train(
    start: AbstractStagedModel, public: Split, spec: PretrainingSpec, streams: RandomStreams
) -> AbstractStagedModel:
    """The same model with all its parameters trained."""
    trained = {name: tensor.clone().requires_grad_() for name, tensor in start.parameters.items()}
    optimiser = torch.optim.SGD(trained.values(), lr=spec.learning_rate, momentum=spec.momentum)
    rng = streams.generator("base-batches")
    for step in range(spec.steps):
        chosen = torch.from_numpy(rng.choice(public.size, min(spec.batch, public.size), replace=False))
        logits = _logits(start.stages, trained, public.x[chosen])
        loss = torch.nn.functional.cross_entropy(logits, public.y[chosen])
        if not torch.isfinite(loss):
            raise DivergenceError(
                f"pretraining step {step}: the loss is {loss.item()}; "
                f"lower learning.model.base.learning_rate (now {spec.learning_rate:g})"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return start.with_parameters({name: tensor.detach() for name, tensor in trained.items()})


def _logits(
    stages: Mapping[str, Stage], parameters: Mapping[str, torch.Tensor], x: Float[torch.Tensor, "B F"]
) -> Float[torch.Tensor, "B C"]:
    for index, (name, stage) in enumerate(stages.items()):
        rows = stage.arrangement.to_rows(torch.relu(x) if index else x)
        y = torch.nn.functional.linear(rows, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        x = stage.arrangement.to_features(y)
    return x
