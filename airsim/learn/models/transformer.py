"""A frozen encoder or decoder of Hugging Face, with adapters on the linear layers that a pattern names."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from airsim.errors import DataError
from airsim.learn.adapters import LayerShape, LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.models.base import AbstractModel, DeviceGradients
from airsim.learn.models.heads import HEAD, AbstractObjective, SampleScores
from airsim.learn.models.lower_layers import (
    LowerActivations,
    LowerLayer,
    known_activations,
    mark_lower_layers,
    recorded_activations,
)
from airsim.learn.models.network_linear import NetworkLinear, freeze_linears, installed, is_linear

# Texts in one pass without gradients; bounds the memory of an evaluation.
TEXTS_PER_PASS = 128
# Tokens in one pass with gradients (one device at least). Fixed, for other passes give other bits.
TOKENS_PER_PASS = 2048
# A GPU wants more at once; chosen, not measured.
TOKENS_PER_GPU_PASS = 2**14


@dataclass(frozen=True)
class TransformerModel(AbstractModel):
    """A network that is never trained again; texts are rows of token numbers, filled up with -1.

    `sequence_length` is what the operations of a sample are counted for. `num_lower_layers` of the network
    lie below the lowest adapter. `changed` weights take the place of the network's own, which all models on
    it share; they are kept and multiplied in their own type, float32 on a network in bfloat16.
    """

    network: torch.nn.Module
    shapes: Mapping[str, LayerShape]
    objective: AbstractObjective
    sequence_length: int
    num_lower_layers: int
    lower: LowerActivations | None = None
    changed: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def layer_shapes(self) -> Mapping[str, LayerShape]:
        """Widths of the adapted layers, named as the network calls them."""
        return self.shapes

    @property
    def base_weights(self) -> dict[str, Tensor]:
        """Frozen weights (outputs, inputs) of the adapted layers, in float32 at least.

        bfloat16 keeps eight bits: what a round adds to a weight would be lost in it.
        """
        modules = self.network.named_modules()
        own = {name: module.matrix for name, module in modules if isinstance(module, NetworkLinear)}
        return {
            name: self.changed[name] if name in self.changed else _widened(own[name]) for name in self.shapes
        }

    def with_base_weights(self, weights: Mapping[str, Tensor]) -> "TransformerModel":
        """The same network with some of its adapted layers' weights replaced."""
        return dataclasses.replace(self, changed={**self.changed, **weights})

    def to(self, device: torch.device) -> "TransformerModel":
        """The same model on a device; the network itself is moved, for all models on it."""
        lower = None if self.lower is None else self.lower.to(device)
        changed = {name: weight.to(device) for name, weight in self.changed.items()}
        return dataclasses.replace(
            self,
            network=self.network.to(device),
            objective=self.objective.to(device),
            lower=lower,
            changed=changed,
        )

    @property
    def width(self) -> int:
        """Entries of a hidden state."""
        return int(self._config.hidden_size)

    @property
    def _config(self) -> Any:
        return self.network.config

    def for_task(self, task: int) -> "TransformerModel":
        """The same network with what one task adds to it."""
        return dataclasses.replace(self, objective=self.objective.for_task(task))

    def for_devices(self, tasks: Sequence[int]) -> "TransformerModel":
        """The same network for devices of several tasks at once."""
        return dataclasses.replace(self, objective=self.objective.for_devices(tasks))

    def forward(
        self, x: Int[Tensor, "*stack B T"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "..."]:
        """Logits of the base with the adapters' updates added; factors may be stacked like ``x``."""
        stacked = next((factors.a.shape[0] for factors in layers.values() if factors.a.dim() == 3), None)
        if x.dim() == 3:
            return self._pass(x, layers, scale)
        if stacked is not None:
            return self._pass(x.expand(stacked, *x.shape), layers, scale)
        return self._pass(x.unsqueeze(0), layers, scale).squeeze(0)

    def scores(
        self,
        x: Int[Tensor, "*samples T"],
        y: Int[Tensor, "*samples"],
        layers: Mapping[str, LoRAFactors],
        scale: float,
    ) -> SampleScores:
        """Right answers and losses, sample by sample; without gradients in passes of bounded size."""
        if torch.is_grad_enabled() or x.dim() == 3:
            return self.objective.scores(self.forward(x, layers, scale), x, y)
        parts = zip(x.split(TEXTS_PER_PASS), y.split(TEXTS_PER_PASS), strict=True)
        scored = [self.objective.scores(self.forward(one, layers, scale), one, own) for one, own in parts]
        return SampleScores(*map(torch.cat, zip(*scored, strict=True)))

    def device_gradients(
        self, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch
    ) -> DeviceGradients:
        """Gradient of each device's mean loss with respect to its adapters, and its head if `layers` has it.

        One pass for all devices: the base is shared, only adapters have a gradient, and layers below the
        lowest adapter are not passed backwards.
        """
        num_devices, texts, length = batch.x.shape
        tokens = TOKENS_PER_PASS if batch.x.device.type == "cpu" else TOKENS_PER_GPU_PASS
        together = max(1, tokens // (texts * length))
        passes = [
            self._gradient_pass(layers, scale, batch, slice(start, start + together))
            for start in range(0, num_devices, together)
        ]
        gradients = {
            name: LoRAFactors(
                torch.cat([part.layers[name].a for part in passes]),
                torch.cat([part.layers[name].b for part in passes]),
            )
            for name in layers
        }
        return DeviceGradients(torch.cat([part.losses for part in passes]), gradients)

    def _gradient_pass(
        self, layers: Mapping[str, LoRAFactors], scale: float, batch: PaddedBatch, devices: slice
    ) -> DeviceGradients:
        weights = batch.weights[devices]
        x = torch.where(weights.unsqueeze(-1) > 0, batch.x[devices], -1)
        leaves = {
            name: LoRAFactors(
                own.a[devices].detach().requires_grad_(), own.b[devices].detach().requires_grad_()
            )
            for name, own in _per_device(layers, len(batch.x)).items()
        }
        model = dataclasses.replace(self, objective=self.objective.of_devices(devices))
        with torch.enable_grad():
            losses = model.scores(x, batch.y[devices], leaves, scale).losses
            means = (losses * weights.to(losses.dtype)).sum(dim=-1)
        wanted = [part for own in leaves.values() for part in (own.a, own.b)]
        found = iter(torch.autograd.grad(means.sum(), wanted, materialize_grads=True))
        gradients = {name: LoRAFactors(next(found), next(found)) for name in leaves}
        return DeviceGradients(means.detach(), gradients)

    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one text's forward and backward pass with adapters of this rank.

        Per token a linear layer costs ``2 I O`` forward and, above the lowest adapter, ``2 I O`` back to its
        input; an adapter ``6 R (I + O)`` in all. The two products of attention cost ``4 T D`` per token and
        layer forward and twice that backward. Lower layers kept in memory are counted all the same: a device
        has no such memory. Norms, activations, embeddings and the head are left out.
        """
        lower_blocks = [module for module in self.network.modules() if isinstance(module, LowerLayer)]
        total, lower = _linear_entries(self.network), sum(_linear_entries(block) for block in lower_blocks)
        attention = 4 * self.sequence_length * self.width
        num_upper = int(self._config.num_hidden_layers) - self.num_lower_layers
        adapters = sum(6 * rank * (shape.inputs + shape.outputs) for shape in self.layer_shapes.values())
        below = 2 * lower + self.num_lower_layers * attention
        above = 4 * (total - lower) + 3 * num_upper * attention
        return self.sequence_length * (below + above + adapters)

    def forward_flops_per_sample(self) -> int:
        """Floating point operations of one text's forward pass without adapters, counted as above."""
        attention = int(self._config.num_hidden_layers) * 4 * self.sequence_length * self.width
        return self.sequence_length * (2 * _linear_entries(self.network) + attention)

    def with_known_texts(self, texts: Sequence[Int[Tensor, "_ _"]]) -> "TransformerModel":
        """The same model, with what the layers below the lowest adapter give for these texts kept in memory.

        Raises:
            DataError: no layer lies below the lowest adapter, so that there is nothing to keep.
        """
        if not self.num_lower_layers:
            raise DataError("no layer lies below the lowest adapter: choose a pattern of upper layers only")
        longest = max(part.shape[1] for part in texts)
        padded = [torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=-1) for part in texts]
        empty_row = padded[0].new_full((1, longest), -1)  # what fills up a device's batch
        tokens = torch.cat([*padded, empty_row])
        hidden = []
        with recorded_activations() as record, torch.no_grad():
            for part in tokens.split(TEXTS_PER_PASS):
                self.network_output(part)
                hidden.append(torch.nn.functional.pad(record[0], (0, 0, 0, longest - record[0].shape[1])))
        return dataclasses.replace(self, lower=LowerActivations(tokens, torch.cat(hidden)))

    def _pass(
        self, x: Int[Tensor, "K B T"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "..."]:
        tokens = x.flatten(0, 1)
        own = _per_device(layers, x.shape[0])
        with installed(own, scale, self.changed):
            output, mask = self.network_output(tokens)
        head = own.get(HEAD)
        logits = self.objective.logits(output, mask, head)
        return logits.reshape(*x.shape[:2], *logits.shape[2:])

    def network_output(
        self, tokens: Int[Tensor, "N T"], parameters: Mapping[str, Tensor] | None = None
    ) -> tuple[Any, Tensor]:
        """The network's output and the attention mask, cut to the longest text.

        `parameters` take the place of the network's own for this pass; not on several threads at once.
        """
        mask = tokens >= 0
        mask[:, 0] = True  # an empty row must attend to something
        longest = int(mask.sum(dim=1).max())
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        known = None if self.lower is None else self.lower.find(tokens)
        inputs = {"input_ids": tokens.clamp(min=0), "attention_mask": mask.long()}
        with known_activations(known):
            if parameters is None:
                return self.network(**inputs), mask
            output = functional_call(self.network, dict(parameters), (), inputs)
        return output, mask


def _widened(matrix: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


def _per_device(layers: Mapping[str, LoRAFactors], num_devices: int) -> dict[str, LoRAFactors]:
    """Factors with the leading axis K, expanded where all devices hold the same."""
    return {
        name: factors if factors.a.dim() == 3 else factors.expand(num_devices)
        for name, factors in layers.items()
    }


def _linear_entries(network: torch.nn.Module) -> int:
    linears = (m for m in network.modules() if isinstance(m, NetworkLinear) or is_linear(m))
    return sum(module.get_parameter("weight").numel() for module in linears)


def adapt(
    network: torch.nn.Module,
    pattern: str,
    objective: AbstractObjective,
    sequence_length: int,
    base_dtype: torch.dtype | None = None,
) -> TransformerModel:
    """Freeze a network in place, and make the linear layers in whose names `pattern` is found carry adapters.

    `base_dtype` keeps and multiplies the frozen weights of linear layers in another type, such as bfloat16.
    Layers that are given new weights leave it.

    Raises:
        DataError: no linear layer has a name in which the pattern is found.
    """
    network.requires_grad_(False).eval()
    names = [name for name, module in network.named_modules() if is_linear(module)]
    layers = freeze_linears(network, lambda name: re.search(pattern, name) is not None, base_dtype)
    if not layers:
        raise DataError(f"pattern {pattern!r} is found in no linear layer; there are {', '.join(names)}")
    shapes = {name: layer.shape for name, layer in layers.items()}
    return TransformerModel(
        network, shapes, objective, sequence_length, mark_lower_layers(network, list(shapes))
    )
