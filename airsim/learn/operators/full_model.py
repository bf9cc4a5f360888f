"""Methods on full parameters, as the server sees them: FedAvg, FedProx, MOON and SCAFFOLD.

What they add to a device's objective stands in `local_objective.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    RoundView,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.model_payload import (
    everything,
    expand,
    flatten_model,
    flatten_moves,
    flatten_stack,
    like_parameters,
)
from airsim.learn.operators.payload import LiveLayers

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class ModelState:
    """The global model, and with SCAFFOLD the server's control variate (else empty)."""

    parameters: Parameters
    control: Parameters


@dataclass(frozen=True)
class ModelStack:
    """The models of some devices, one leading entry per device, and what each keeps for itself.

    `private` is SCAFFOLD's control variate of the device or MOON's model of its last participation, else
    empty.
    """

    parameters: Parameters
    private: Parameters

    def take(self, rows: Sequence[int]) -> "ModelStack":
        """Some of the devices, by their place in the stack."""
        chosen = list(rows)
        parts = [{name: x[chosen] for name, x in part.items()} for part in (self.parameters, self.private)]
        return ModelStack(*parts)

    def put(self, rows: Sequence[int], stack: "ModelStack") -> "ModelStack":
        """The same stack with these devices replaced; the one at hand is left as it is."""
        places = torch.tensor(list(rows))
        pairs = ((self.parameters, stack.parameters), (self.private, stack.private))
        parts = [
            {name: x.index_copy(0, places.to(x.device), new[name]) for name, x in old.items()}
            for old, new in pairs
        ]
        return ModelStack(*parts)


ModelView = RoundView[ModelState]


class AbstractModelAveraging(AbstractAggregationOperator[ModelStack, ModelState]):
    """All parameters are trained and sent, and their weighted mean is the next global model."""

    sends: Sends

    @property
    def on_air(self) -> OnAir:
        """One weighted sum."""
        return OnAir.LINEAR

    def live(self, state: ModelState, round_index: int) -> LiveLayers:
        """No adapters: the full weights are trained."""
        return {}

    def encode(self, before: ModelStack, after: ModelStack, view: ModelView) -> Transmission:
        """All parameters of each device, or their change."""
        if self.sends == "factors":
            return everything(flatten_stack(after.parameters))
        return everything(flatten_moves(after.parameters, before.parameters))

    def decode(self, received: Float[Tensor, "D"], view: ModelView) -> ServerUpdate[ModelState]:
        """The weighted mean."""
        mean = received
        if self.sends == "change":
            mean = mean + flatten_model(view.state.parameters) * view.participants.weights.sum()
        return ServerUpdate(ModelState(like_parameters(mean, view.state.parameters), view.state.control))

    def downlink(self, update: ServerUpdate[ModelState], view: ModelView, row: int) -> dict[str, Tensor]:
        """All parameters."""
        return dict(update.state.parameters)


@final
@dataclass(frozen=True)
class FedAvg(AbstractModelAveraging):
    r""":math:`w \leftarrow \sum_k p_k w_k`. Source: [FedAvg]."""

    sends: Sends = "change"

    def broadcast(self, state: ModelState, kept: ModelStack, devices: Sequence[int]) -> ModelStack:
        """The global model, and nothing kept."""
        return ModelStack(expand(state.parameters, len(devices)), {})


@final
@dataclass(frozen=True)
class FedProx(AbstractModelAveraging):
    r"""FedAvg with :math:`(\mu/2)\|w - w_t\|^2` in the objective (`proximal_term`). Source: [FedProx]."""

    proximal_weight: float
    sends: Sends = "change"

    def __post_init__(self) -> None:
        if self.proximal_weight < 0:
            raise ValueError(f"proximal_weight = {self.proximal_weight}: give 0 or a positive mu")

    def broadcast(self, state: ModelState, kept: ModelStack, devices: Sequence[int]) -> ModelStack:
        """The global model, and nothing kept."""
        return ModelStack(expand(state.parameters, len(devices)), {})


@final
@dataclass(frozen=True)
class MOON(AbstractModelAveraging):
    """FedAvg with a contrastive term in the local objective (`contrastive_loss`). Source: [MOON].

    A device keeps its model of its last participation, which the term pushes away from; at first it is the
    global one.
    """

    contrastive_weight: float = 1.0
    temperature: float = 0.5
    sends: Sends = "change"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature = {self.temperature}: give a positive number")

    def broadcast(self, state: ModelState, kept: ModelStack, devices: Sequence[int]) -> ModelStack:
        """The global model; what the device trained last becomes its private model."""
        return ModelStack(expand(state.parameters, len(devices)), kept.parameters)


@final
@dataclass(frozen=True)
class Scaffold(AbstractAggregationOperator[ModelStack, ModelState]):
    r"""Local steps along ``g - c_k + c``; the model's and the control's changes travel as one vector.

    .. math:: x \leftarrow x + \eta_g \sum_k p_k (y_k - x), \qquad
              c \leftarrow c + \frac{|S|}{N} \sum_k p_k (c_k^+ - c_k)

    with |S| participants of N devices; the paper has equal weights. Devices keep their ``c_k``. Source:
    [SCAFFOLD].
    """

    num_devices: int
    server_learning_rate: float = 1.0

    @property
    def on_air(self) -> OnAir:
        """One weighted sum, of both vectors one after the other."""
        return OnAir.LINEAR

    def live(self, state: ModelState, round_index: int) -> LiveLayers:
        """No adapters: the full weights are trained."""
        return {}

    def start(self, state: ModelState) -> ModelState:
        """A control variate of 0."""
        return ModelState(
            state.parameters, {name: torch.zeros_like(x) for name, x in state.parameters.items()}
        )

    def encode(self, before: ModelStack, after: ModelStack, view: ModelView) -> Transmission:
        """The changes of model and control variate."""
        model = flatten_moves(after.parameters, before.parameters)
        control = flatten_moves(after.private, before.private)
        return everything(torch.cat((model, control), dim=1))

    def decode(self, received: Float[Tensor, "D"], view: ModelView) -> ServerUpdate[ModelState]:
        """Both steps of the server."""
        model, control = received.chunk(2)
        participation = len(view.participants.devices) / self.num_devices
        old = view.state
        new = flatten_model(old.parameters) + self.server_learning_rate * model
        variate = flatten_model(old.control) + participation * control
        return ServerUpdate(
            ModelState(like_parameters(new, old.parameters), like_parameters(variate, old.parameters))
        )

    def broadcast(self, state: ModelState, kept: ModelStack, devices: Sequence[int]) -> ModelStack:
        """The global model, beside the device's own control variate."""
        return ModelStack(expand(state.parameters, len(devices)), kept.private)

    def downlink(self, update: ServerUpdate[ModelState], view: ModelView, row: int) -> dict[str, Tensor]:
        """All parameters, and the server's control variate."""
        control = {f"control.{name}": x for name, x in update.state.control.items()}
        return dict(update.state.parameters) | control
