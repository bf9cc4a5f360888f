"""Adapters to and from the folders of Hugging Face PEFT, and plain networks with the adapters merged in."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from airsim.errors import DataError
from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.heads import HEAD
from airsim.learn.models.lower_layers import LowerLayer
from airsim.learn.models.network_linear import NetworkLinear
from airsim.learn.models.transformer import TransformerModel
from airsim.store import write_atomically

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HEAD_FILE = "head.safetensors"
PREFIX = "base_model.model."
SCALE_KEY = "airsim_scale"
# What a folder may ask for beyond ``B A`` on linear layers; each must be off.
UNSUPPORTED = ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "lora_bias")


@dataclass(frozen=True)
class PeftAdapter:
    """One low-rank update per layer, ``c B A``, and the name or folder of the network that it belongs to.

    A trained head stands among the layers under its own name.
    """

    layers: Mapping[str, LoRAFactors]
    scale: float
    base_name: str


def export_adapter(adapter: PeftAdapter, folder: Path, transposed: bool = False) -> None:
    """Write a folder that ``peft.PeftModel.from_pretrained`` loads on the network.

    PEFT scales by ``alpha / r``, so ``alpha = c r`` with the rank of each layer; the exact scale stands in
    the file too. A trained head goes to a file of its own, which PEFT does not read. `transposed` says that
    the network stores its weights as (inputs, outputs), as GPT-2 does.
    """
    layers = {name: factors for name, factors in adapter.layers.items() if name != HEAD}
    for name, factors in layers.items():
        if factors.rank < 1 or factors.a.dim() != 2:
            raise ValueError(
                f"layer {name}: factors of shapes {tuple(factors.a.shape)} and {tuple(factors.b.shape)}; "
                "PEFT holds one update of rank 1 or more: take one task or device, or leave the layer out"
            )
    tensors = {}
    for name, factors in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = factors.a.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = factors.b.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt", SCALE_KEY: float(adapter.scale).hex()})
    if HEAD in adapter.layers:
        save_file({"rows": adapter.layers[HEAD].a.contiguous()}, folder / HEAD_FILE)
    config = _config(layers, adapter, transposed)
    write_atomically(folder / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")


def import_adapter(folder: Path, prefix: str = "") -> PeftAdapter:
    """The update in a PEFT folder, of airsim or another program.

    `prefix` is taken off the layers' names: ``bert.`` where the folder was made for a
    `BertForSequenceClassification` and the network is its `BertModel`.

    Raises:
        DataError: the folder is damaged, or holds something else than one ``c B A`` per linear layer.
    """
    config, tensors, metadata = _read(folder)
    for key in UNSUPPORTED:
        if config.get(key):
            raise DataError(f"{folder}: {key} = {config[key]}; only plain low-rank updates can be read")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        kind = f"peft_type = {config.get('peft_type')}, bias = {config.get('bias')}"
        raise DataError(f"{folder}: {kind}; only LORA without biases can be read")
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, factor = _layer_and_factor(folder, key, prefix)
        parts.setdefault(name, {})[factor] = tensor
    for name, pair in parts.items():
        if set(pair) != {"lora_A", "lora_B"}:
            raise DataError(f"{folder}: layer {name} has only {', '.join(pair)}; fetch the folder again")
    layers = {name: LoRAFactors(pair["lora_A"], pair["lora_B"]) for name, pair in parts.items()}
    scale = _common_scale(folder, config, layers, metadata)
    if (folder / HEAD_FILE).is_file():
        rows = _read_tensors(folder / HEAD_FILE)[0]["rows"]
        layers[HEAD] = LoRAFactors(rows, rows.new_zeros(0, len(rows)))
    return PeftAdapter(layers, scale, str(config.get("base_model_name_or_path") or ""))


def merged_network(
    model: TransformerModel, layers: Mapping[str, LoRAFactors], scale: float
) -> torch.nn.Module:
    """A plain network with ``W + c B A`` for weights: `save_pretrained` writes what `transformers` loads.

    W is the model's own, with what a method has merged into it or put in its place. The model itself is left
    as it is. Weights that it keeps in bfloat16 stay rounded, new ones have their own type.
    """
    network = copy.deepcopy(model.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, LowerLayer):
            network.set_submodule(name, module.block)
    for name, module in list(network.named_modules()):
        if isinstance(module, NetworkLinear):
            matrix = _merged(model, module, layers.get(module.name), scale)
            network.set_submodule(name, _plain_linear(module, matrix))
    return network


def _merged(
    model: TransformerModel, module: NetworkLinear, factors: LoRAFactors | None, scale: float
) -> torch.Tensor:
    """A layer's weight (outputs, inputs), float32 where the frozen one is bfloat16."""
    matrix = model.changed.get(module.name, module.matrix).detach()
    matrix = matrix.float() if matrix.dtype == torch.bfloat16 else matrix
    if factors is None:
        return matrix
    return matrix + (scale * (factors.b @ factors.a)).to(matrix.dtype)


def _plain_linear(module: NetworkLinear, matrix: torch.Tensor) -> torch.nn.Module:
    shape = module.shape
    if module.transposed:
        from transformers.pytorch_utils import Conv1D

        plain: torch.nn.Module = Conv1D(shape.outputs, shape.inputs)
    else:
        plain = torch.nn.Linear(shape.inputs, shape.outputs, bias=module.bias is not None)
    plain.weight = torch.nn.Parameter((matrix.mT if module.transposed else matrix).contiguous())
    if module.bias is not None:
        plain.bias = torch.nn.Parameter(module.bias.detach())
    return plain


def _config(layers: Mapping[str, LoRAFactors], adapter: PeftAdapter, transposed: bool) -> dict[str, Any]:
    ranks = {name: factors.rank for name, factors in layers.items()}
    largest = max(ranks.values())
    other = {name: rank for name, rank in ranks.items() if rank != largest}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": adapter.base_name,
        "r": largest,
        "lora_alpha": adapter.scale * largest,
        "rank_pattern": other,
        "alpha_pattern": {name: adapter.scale * rank for name, rank in other.items()},
        "target_modules": list(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / CONFIG_FILE}: cannot be read ({error}); choose a PEFT folder") from error
    return config, *_read_tensors(folder / WEIGHTS_FILE)


def _read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # not iterable itself
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); choose a folder with safetensors") from error


def _layer_and_factor(folder: Path, key: str, prefix: str) -> tuple[str, str]:
    """``encoder.0.query`` and ``lora_A`` from ``base_model.model.encoder.0.query.lora_A.weight``."""
    start, end = PREFIX + prefix, ".weight"
    name, _, factor = key.removeprefix(start).removesuffix(end).rpartition(".")
    if not key.startswith(start) or not key.endswith(end) or factor not in ("lora_A", "lora_B"):
        raise DataError(f"{folder}: {key} is no factor of a linear layer whose name begins with {start!r}")
    return name, factor


def _common_scale(
    folder: Path, config: Mapping[str, Any], layers: Mapping[str, LoRAFactors], metadata: Mapping[str, str]
) -> float:
    """The one scale of all layers; as it was exported where that agrees with ``alpha / r``."""
    alphas = config.get("alpha_pattern") or {}
    power = 0.5 if config.get("use_rslora") else 1.0
    scales = {
        name: float(_of_layer(alphas, name, config["lora_alpha"])) / factors.rank**power
        for name, factors in layers.items()
    }
    first = next(iter(scales.values()))
    for name, scale in scales.items():
        if not math.isclose(scale, first, rel_tol=1e-12):
            raise DataError(
                f"{folder}: layer {name} has scale {scale:g}, another {first:g}; only one can be read"
            )
    exported = float.fromhex(metadata[SCALE_KEY]) if SCALE_KEY in metadata else first
    return exported if math.isclose(exported, first, rel_tol=1e-12) else first


def _of_layer(pattern: Mapping[str, Any], name: str, default: Any) -> Any:
    """The entry of a layer in a table whose keys are ends of names."""
    found = (value for key, value in pattern.items() if name == key or name.endswith(f".{key}"))
    return next(found, default)
