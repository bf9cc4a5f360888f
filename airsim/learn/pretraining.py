"""Base models: trained on the public split, random, or from a file."""

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from airsim.errors import DataError, DivergenceError
from airsim.learn.data.tasks import Split
from airsim.learn.models.mlp import FrozenMLP
from airsim.randomness import RandomStreams


@dataclass(frozen=True)
class PretrainingSpec:
    """Momentum SGD on mini-batches of the public split."""

    steps: int = 400
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9


def random_base(layer_sizes: Sequence[int], streams: RandomStreams) -> FrozenMLP:
    """An untrained base: weights uniform in ``+-sqrt(6/fan_in)``, no biases.

    The variance ``2/fan_in`` keeps the size of the signal through rectifiers, without which the adapters of a
    base that is never trained hardly learn. Source: [He15].
    """
    weights, biases = [], []
    for index, (inputs, outputs) in enumerate(pairwise(layer_sizes)):
        rng = streams.generator("base-random", index)
        weights.append(_uniform(rng, np.sqrt(6.0 / inputs), (outputs, inputs)))
        biases.append(torch.zeros(outputs))
    return FrozenMLP(tuple(weights), tuple(biases))


def pretrain_base(
    public: Split, layer_sizes: Sequence[int], spec: PretrainingSpec, streams: RandomStreams, cache_dir: Path
) -> FrozenMLP:
    """A base trained on the public split; taken from the cache where the same training was done before.

    The cache knows a training by its content: data, widths, `spec`, seed and version of torch.

    Raises:
        DivergenceError: the training loss is not finite.
    """
    path = cache_dir / f"base-{_training_digest(public, layer_sizes, spec, streams)}.safetensors"
    if path.exists():
        try:
            return load_base(path, layer_sizes)
        except DataError as error:
            warnings.warn(f"the cached base is damaged and is trained again: {error}", stacklevel=2)
    model = _train(_untrained(layer_sizes, streams), public, spec, streams)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        save_base(model, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"the base is not cached: {error}; set AIRSIM_CACHE_DIR elsewhere", stacklevel=2)
    return model


def save_base(model: FrozenMLP, path: Path) -> None:
    """Write a base as safetensors: beside, then renamed, so that no reader meets half a file."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight, bias in zip(model.layer_names, model.weights, model.biases, strict=True):
        tensors |= {f"{name}.weight": weight.contiguous(), f"{name}.bias": bias.contiguous()}
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file(tensors, draft)
    draft.replace(path)


def load_base(path: Path, layer_sizes: Sequence[int]) -> FrozenMLP:
    """A base from safetensors with entries ``layer0.weight`` (outputs, inputs), ``layer0.bias``, and so on.

    Raises:
        DataError: the file is missing or damaged, or holds a model of other widths.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no base model can be read ({error}); choose another file") from error
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(pairwise(layer_sizes)):
        shapes |= {f"layer{index}.weight": (outputs, inputs), f"layer{index}.bias": (outputs,)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        raise DataError(
            f"{path}: holds {found} but the model is {shapes}; change learning.model.hidden or the file"
        )
    ordered = [tensors[name].float() for name in shapes]
    if not all(tensor.isfinite().all() for tensor in ordered):
        raise DataError(f"{path}: some weights are not finite; write or choose another file")
    return FrozenMLP(tuple(ordered[0::2]), tuple(ordered[1::2]))


def base_checksum(path: Path) -> str:
    """SHA-256 of a base file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: no base model can be read ({error}); choose another file") from error


def _training_digest(
    public: Split, layer_sizes: Sequence[int], spec: PretrainingSpec, streams: RandomStreams
) -> str:
    settings = [list(layer_sizes), asdict(spec), streams.seed, torch.__version__]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(public.x.numpy().tobytes())
    digest.update(public.y.numpy().tobytes())
    return digest.hexdigest()[:24]


def _untrained(layer_sizes: Sequence[int], streams: RandomStreams) -> FrozenMLP:
    """Where pretraining starts: weights and biases uniform in ``+-1/sqrt(fan_in)``, torch's own default."""
    weights, biases = [], []
    for index, (inputs, outputs) in enumerate(pairwise(layer_sizes)):
        rng, bound = streams.generator("base-init", index), 1.0 / np.sqrt(inputs)
        weights.append(_uniform(rng, bound, (outputs, inputs)))
        biases.append(_uniform(rng, bound, (outputs,)))
    return FrozenMLP(tuple(weights), tuple(biases))


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32))


def _train(start: FrozenMLP, public: Split, spec: PretrainingSpec, streams: RandomStreams) -> FrozenMLP:
    parameters = [tensor.clone().requires_grad_() for tensor in (*start.weights, *start.biases)]
    depth = len(start.weights)
    optimiser = torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=spec.momentum)
    rng = streams.generator("base-batches")
    for step in range(spec.steps):
        chosen = torch.from_numpy(rng.choice(public.size, min(spec.batch, public.size), replace=False))
        x = public.x[chosen]
        for index in range(depth):
            x = torch.nn.functional.linear(
                torch.relu(x) if index else x, parameters[index], parameters[depth + index]
            )
        loss = torch.nn.functional.cross_entropy(x, public.y[chosen])
        if not torch.isfinite(loss):
            raise DivergenceError(
                f"pretraining step {step}: the loss is {loss.item()}; "
                f"lower learning.model.base.learning_rate (now {spec.learning_rate:g})"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    final = [tensor.detach() for tensor in parameters]
    return FrozenMLP(tuple(final[:depth]), tuple(final[depth:]))
