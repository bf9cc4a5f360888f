"""Models that are linear layers one after another, with rectifiers between them."""

import abc
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LayerShape, LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.frozen import base_product
from airsim.learn.lora import AbstractLinear, AdaptedLinear, FrozenLinear, absorb, for_device, merge
from airsim.learn.losses import cross_entropy
from airsim.learn.models.base import AbstractBaseModel, Backpropagation, LayerTrace
from airsim.learn.models.trainable import AbstractTrainable

threshold_backward = torch.ops.aten.threshold_backward.grad_input


class AbstractArrangement(abc.ABC):
    """Between the features of a sample and the rows that a layer reads: linear maps and their transposes."""

    @property
    @abc.abstractmethod
    def rows_per_sample(self) -> int:
        """Rows that the layer makes of one sample."""

    @abc.abstractmethod
    def to_rows(self, features: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack P I"]:
        """What the layer reads."""

    @abc.abstractmethod
    def to_rows_gradient(self, d: Float[Tensor, "*stack P I"]) -> Float[Tensor, "*stack B F"]:
        """The derivative at the features, given the one at the rows."""

    @abc.abstractmethod
    def to_features(self, y: Float[Tensor, "*stack P O"]) -> Float[Tensor, "*stack B F"]:
        """What the layer's output is to the next layer."""

    @abc.abstractmethod
    def to_features_gradient(self, d: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack P O"]:
        """The derivative at the layer's output, given the one at its features."""


@final
@dataclass(frozen=True)
class Dense(AbstractArrangement):
    """One row per sample: its features."""

    rows_per_sample = 1

    def to_rows(self, features: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack B F"]:
        return features

    def to_rows_gradient(self, d: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack B F"]:
        return d

    def to_features(self, y: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack B F"]:
        return y

    def to_features_gradient(self, d: Float[Tensor, "*stack B F"]) -> Float[Tensor, "*stack B F"]:
        return d


class Stage(NamedTuple):
    """One frozen layer: its weights, and how rows and features are arranged around it."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, "O"]
    arrangement: AbstractArrangement

    @property
    def shape(self) -> LayerShape:
        """Widths on both sides."""
        return LayerShape(self.weight.shape[1], self.weight.shape[0])

    @property
    def products(self) -> int:
        """Multiplications that the layer needs for one sample."""
        return self.arrangement.rows_per_sample * self.weight.numel()

    @property
    def ends(self) -> int:
        """Real entries that one sample brings to the layer and its output."""
        return self.arrangement.rows_per_sample * sum(self.shape)


@dataclass(frozen=True)
class _Tape:
    """What the forward pass leaves for the backward pass, stage by stage."""

    features: list[Tensor]
    rows: list[Tensor]
    inners: list[Tensor]


class AbstractStagedModel(AbstractBaseModel, AbstractTrainable):
    """Forward and backward pass of a chain of stages."""

    # Sums do not mix devices, so another number gives other bits only through the products' shapes.
    devices_side_by_side = 16
    heads_differ = False

    @property
    @abc.abstractmethod
    def stages(self) -> dict[str, Stage]:
        """The layers by name, from input to output."""

    @property
    def layer_shapes(self) -> dict[str, LayerShape]:
        """Widths of each layer that can carry an adapter, by name."""
        return {name: stage.shape for name, stage in self.stages.items()}

    @property
    def structure(self) -> Hashable:
        """Names of the layers, how rows and features are arranged around them, and which may be adapted."""
        stages = tuple((name, stage.arrangement) for name, stage in self.stages.items())
        return stages, self.layer_names

    @property
    def entries_per_sample(self) -> int:
        """Real entries that one sample brings to the layers and their outputs, position by position."""
        return sum(stage.ends for stage in self.stages.values())

    def for_task(self, task: int) -> "AbstractStagedModel":
        """All tasks use the same model."""
        return self

    @property
    def base_weights(self) -> dict[str, Tensor]:
        """Frozen weights under the adapters, by name."""
        return {name: self.stages[name].weight for name in self.layer_shapes}

    def with_base_weights(self, weights: Mapping[str, Tensor]) -> "AbstractStagedModel":
        """The same model with some weights replaced."""
        return self.with_parameters({f"{name}.weight": weight for name, weight in weights.items()})

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases by name."""
        found: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            found |= {f"{name}.weight": stage.weight, f"{name}.bias": stage.bias}
        return found

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> "AbstractStagedModel":
        """The same model with some parameters replaced."""
        kept = self.parameters | dict(parameters)
        ordered = [(kept[f"{name}.weight"], kept[f"{name}.bias"]) for name in self.stages]
        return self._rebuilt(*zip(*ordered, strict=True))

    def to(self, device: torch.device) -> "AbstractStagedModel":
        """The same model with its parameters on a device."""
        return self.with_parameters({name: tensor.to(device) for name, tensor in self.parameters.items()})

    @abc.abstractmethod
    def _rebuilt(self, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> "AbstractStagedModel":
        """The same model with these parameters, from input to output."""

    def flops_per_sample(self, rank: int) -> int:
        """Floating point operations of one sample's forward and backward pass with adapters of this rank.

        Frozen weights need no gradient, so a layer costs ``2 I O`` forward and, above the lowest adapter,
        ``2 I O`` back to its input, its adapter ``2 R (I + O)`` forward and ``4 R (I + O)`` backward; the
        lowest adapter passes nothing back (``2 R I`` less). Convolutions work so at each position. Biases,
        rectifiers, rearranging and the softmax are left out.
        """
        stages, adapted = list(self.stages.items()), self.layer_shapes
        lowest = self._lowest(adapted)
        base = 2 * sum(s.products for _, s in stages) + 2 * sum(s.products for _, s in stages[lowest + 1 :])
        first = stages[lowest][1]
        adapters = 6 * rank * sum(stage.ends for name, stage in stages if name in adapted)
        return base + adapters - 2 * rank * first.arrangement.rows_per_sample * first.shape.inputs

    def full_flops_per_sample(self) -> int:
        """The same where all weights are trained: ``6 I O``, and ``2 I O`` less for the first layer."""
        stages = list(self.stages.values())
        return 6 * sum(stage.products for stage in stages) - 2 * stages[0].products

    def forward_flops_per_sample(self) -> int:
        """Floating point operations of one sample's forward pass without adapters: ``2 I O``."""
        return 2 * sum(stage.products for stage in self.stages.values())

    def linears(
        self, layers: Mapping[str, LoRAFactors], scale: float, parameters: Mapping[str, Tensor] | None = None
    ) -> dict[str, AbstractLinear]:
        """Every layer with its adapter beside it; `parameters` stand for the model's own."""
        return self._with_adapters(AdaptedLinear, layers, scale, parameters)

    def device_linears(
        self, layers: Mapping[str, LoRAFactors], scale: float, parameters: Mapping[str, Tensor] | None = None
    ) -> dict[str, AbstractLinear]:
        """Every layer with the adapter of one device that trains alone; `parameters` as above."""
        return self._with_adapters(for_device, layers, scale, parameters)

    def merged_linears(self, layers: Mapping[str, LoRAFactors], scale: float) -> dict[str, AbstractLinear]:
        """Every layer with the adapter that all devices share merged into it."""
        return self._with_adapters(merge, layers, scale)

    def absorbed_linears(self, layers: Mapping[str, LoRAFactors], scale: float) -> dict[str, AbstractLinear]:
        """Every layer with its adapter in its weight and nowhere else: fastest for logits of many samples."""
        return self._with_adapters(absorb, layers, scale)

    def _with_adapters(
        self,
        adapt: Callable[..., AbstractLinear],
        layers: Mapping[str, LoRAFactors],
        scale: float,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> dict[str, AbstractLinear]:
        made: dict[str, AbstractLinear] = {}
        for name, (weight, bias) in self._weights(parameters).items():
            own = layers.get(name)
            made[name] = FrozenLinear(weight, bias) if own is None else adapt(weight, bias, own, scale)
        return made

    def _weights(self, parameters: Mapping[str, Tensor] | None) -> dict[str, tuple[Tensor, Tensor]]:
        if parameters is None:
            return {name: (stage.weight, stage.bias) for name, stage in self.stages.items()}
        return {name: (parameters[f"{name}.weight"], parameters[f"{name}.bias"]) for name in self.stages}

    def forward(
        self, x: Float[Tensor, "*stack B F"], layers: Mapping[str, LoRAFactors], scale: float
    ) -> Float[Tensor, "*stack B C"]:
        """Logits of the base with the adapters' updates added; factors may be stacked like ``x``."""
        return self.logits(x, self.linears(layers, scale))

    def logits(
        self, x: Float[Tensor, "*stack B F"], linears: Mapping[str, AbstractLinear]
    ) -> Float[Tensor, "*stack B C"]:
        """Logits of layers that are ready."""
        for index, (name, stage) in enumerate(self.stages.items()):
            rows = stage.arrangement.to_rows(torch.relu(x) if index else x)
            x = stage.arrangement.to_features(linears[name].forward(rows)[0])
        return x

    def forward_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*stack B F"]
    ) -> tuple[Float[Tensor, "*stack B H"], Float[Tensor, "*stack B C"]]:
        """Input of the last layer, and logits, with other parameters such as ``layer0.weight``."""
        features = x
        for index, (name, stage) in enumerate(self.stages.items()):
            features = torch.relu(x) if index else x
            weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
            y = stage.arrangement.to_rows(features) @ weight.mT + bias.unsqueeze(-2)
            x = stage.arrangement.to_features(y)
        return features, x

    def backpropagate(self, batch: PaddedBatch, linears: Mapping[str, AbstractLinear]) -> Backpropagation:
        """One forward and backward pass of the devices' mean losses, down to the lowest adapter."""
        path = [(name, stage.arrangement, linears[name]) for name, stage in self.stages.items()]
        lowest = self._lowest([name for name, _, layer in path if layer.adapted])
        if batch.product is not None:
            path, lowest = path[lowest:], 0
        tape = self._run(batch, path)
        losses, d = cross_entropy(tape.features.pop(), batch)
        traces = {}
        for index in range(len(path) - 1, lowest - 1, -1):
            name, arrangement, layer = path[index]
            d = arrangement.to_features_gradient(d)
            projected = layer.project(d)
            if layer.adapted:
                traces[name] = LayerTrace(tape.rows[index], tape.inners[index], d, projected)
            if index > lowest:
                passed_on = arrangement.to_rows_gradient(layer.input_gradient(d, projected))
                # In place, as nothing else holds what is passed on.
                d = threshold_backward(passed_on, tape.features[index], 0, grad_input=passed_on)
        return Backpropagation(losses, dict(reversed(traces.items())))

    def _run(
        self, batch: PaddedBatch, path: Sequence[tuple[str, AbstractArrangement, AbstractLinear]]
    ) -> _Tape:
        tape, product = _Tape([batch.x], [], []), batch.product
        for index, (_, arrangement, layer) in enumerate(path):
            tape.rows.append(arrangement.to_rows(tape.features[-1]))
            y, inner = layer.forward(tape.rows[-1], product)
            features, product = arrangement.to_features(y), None
            tape.features.append(features.relu_() if index < len(path) - 1 else features)
            tape.inners.append(inner)
        return tape

    def below(self, x: Float[Tensor, "B F"], adapted: Collection[str]) -> tuple[Tensor, Tensor]:
        """The input of the lowest adapted layer, and what its frozen part makes of it (bias included)."""
        stages = list(self.stages.values())
        lowest = self._lowest(adapted)
        for stage in stages[:lowest]:
            y = base_product(stage.arrangement.to_rows(x), stage.weight, stage.bias)
            x = torch.relu(stage.arrangement.to_features(y))
        own = stages[lowest]
        product = base_product(own.arrangement.to_rows(x), own.weight, own.bias)
        return x, product.unflatten(0, (x.shape[0], -1))

    def _lowest(self, adapted: Collection[str]) -> int:
        places = [index for index, name in enumerate(self.stages) if name in adapted]
        if not places:
            raise ValueError(f"adapters on {sorted(adapted)}: none of the model's layers {self.layer_names}")
        return places[0]
