"""FedInc: devices are grouped by what they learned, and averaged inside their groups.

The source has one sentence: cluster the clients, average inside clusters, one round. All else here is our
reading. Devices are compared by the cosine between their updates ``B_k A_k``, not between factors, which are
ambiguous; the closest groups (mean cosine between members) are joined until `num_clusters` remain; inside a
group both factors are averaged with the data weights of its members. There is nothing random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.errors import UntrainedError
from airsim.learn.adapter_stack import AbstractScaling, AdapterStack
from airsim.learn.adapters import LoRAFactors
from airsim.learn.operators.adapter_operator import named, no_control
from airsim.learn.operators.base import (
    AbstractAggregationOperator,
    OnAir,
    RoundView,
    Sends,
    ServerUpdate,
    Transmission,
)
from airsim.learn.operators.payload import (
    Live,
    LiveLayers,
    everywhere,
    flatten_change,
    flatten_live,
    place,
    sent_entries,
)


@dataclass(frozen=True)
class ClusterState:
    """One adapter per cluster along the leading axis, and the cluster of each device by its number."""

    layers: Mapping[str, LoRAFactors]
    cluster_of: Mapping[int, int]
    scaling: AbstractScaling


ClusterView = RoundView[ClusterState]


@final
@dataclass(frozen=True)
class FedInc(AbstractAggregationOperator[AdapterStack, ClusterState]):
    """Cluster, then average; the text above says how it is read. Source: [FedInc] as told by [Chen25]."""

    num_clusters: int
    sends: Sends = "change"

    def __post_init__(self) -> None:
        if self.num_clusters < 1:
            raise ValueError(f"num_clusters = {self.num_clusters}: give at least 1")

    @property
    def on_air(self) -> OnAir:
        """Every upload: who belongs together is not known before."""
        return OnAir.NONLINEAR

    def live(self, state: ClusterState, round_index: int) -> LiveLayers:
        """Both factors, always."""
        return everywhere(state.layers, Live.BOTH)

    def admit(self, view: ClusterView) -> None:
        """Devices of one rank only, and as many as there are clusters."""
        _require_common_rank(view)
        present = len(view.participants.devices)
        if self.num_clusters > present:
            raise ValueError(
                f"num_clusters = {self.num_clusters} with {present} participants: give at most as many"
            )

    def encode(self, before: AdapterStack, after: AdapterStack, view: ClusterView) -> Transmission:
        """Both factors of each device, or their change."""
        live = everywhere(after.layers, Live.BOTH)
        change = self.sends == "change"
        layers = after.layers
        payload = flatten_change(layers, before.layers, live) if change else flatten_live(layers, live)
        return Transmission(payload, sent_entries(after, live), no_control(payload))

    def decode(self, received: Float[Tensor, "K D"], view: ClusterView) -> ServerUpdate[ClusterState]:
        """One mean adapter per cluster; a device that was absent stays in its old cluster."""
        self.admit(view)
        devices = view.participants.devices
        single = self._uploaded(received, view)
        groups = join_closest(update_cosines(single), self.num_clusters)
        means = [_mean(single, view.participants.weights, group) for group in groups]
        cluster_of = {devices[row]: number for number, group in enumerate(groups) for row in group}
        for device, old in view.state.cluster_of.items():
            if device not in cluster_of:
                cluster_of[device] = len(means)
                means.append({name: factors.take(old) for name, factors in view.state.layers.items()})
        layers = {
            name: LoRAFactors(
                torch.stack([mean[name].a for mean in means]), torch.stack([mean[name].b for mean in means])
            )
            for name in view.state.layers
        }
        return ServerUpdate(ClusterState(layers, cluster_of, view.state.scaling))

    def broadcast(self, state: ClusterState, kept: AdapterStack, devices: Sequence[int]) -> AdapterStack:
        """The adapter of each device's cluster."""
        own = [state.cluster_of[device] for device in devices]
        return AdapterStack({name: factors.take(own) for name, factors in state.layers.items()}, kept.ranks)

    def downlink(self, update: ServerUpdate[ClusterState], view: ClusterView, row: int) -> dict[str, Tensor]:
        """The adapter of the participant's cluster alone."""
        own = update.state.cluster_of[view.participants.devices[row]]
        layers = {name: factors.take(own) for name, factors in update.state.layers.items()}
        return named(layers, everywhere(layers, Live.BOTH))

    def on_downlink(
        self, update: ServerUpdate[ClusterState], view: ClusterView, largest_rank: int
    ) -> dict[str, Tensor]:
        """The adapters of all clusters that a participant is in, one after the other.

        Who sits out keeps what it has, and all have one rank.
        """
        devices, cluster_of = view.participants.devices, update.state.cluster_of
        member = {cluster_of[device]: row for row, device in enumerate(devices)}
        return {
            f"cluster{cluster}.{name}": tensor
            for cluster, row in sorted(member.items())
            for name, tensor in self.downlink(update, view, row).items()
        }

    def _uploaded(self, received: Float[Tensor, "K D"], view: ClusterView) -> dict[str, LoRAFactors]:
        live = everywhere(view.state.layers, Live.BOTH)
        own = [view.state.cluster_of[device] for device in view.participants.devices]
        held = {name: factors.take(own) for name, factors in view.state.layers.items()}
        rows = received + flatten_live(held, live) if self.sends == "change" else received
        return place(rows, held, live)


def one_cluster(
    layers: Mapping[str, LoRAFactors], scaling: AbstractScaling, num_devices: int
) -> ClusterState:
    """The state before any clustering: everybody starts from the same adapter."""
    spread = {name: factors.expand(1) for name, factors in layers.items()}
    return ClusterState(spread, dict.fromkeys(range(num_devices), 0), scaling)


def update_cosines(single: Mapping[str, LoRAFactors]) -> Float[Tensor, "K K"]:
    r"""Cosines between the updates of all layers, from :math:`\mathrm{tr}(A_j^T B_j^T B_k A_k)`."""
    parts = [torch.einsum("jor,kos,jri,ksi->jk", f.b, f.b, f.a, f.a) for f in single.values()]
    inner = torch.stack(parts).sum(dim=0)
    lengths = inner.diagonal().clamp(min=0).sqrt()
    if not bool((lengths > 0).all()):
        row = int(lengths.argmin())
        raise UntrainedError(
            f"participants[{row}] has learned nothing (B A = 0): FedInc has no angle to cluster by. "
            "Raise learning.learning_rate"
        )
    return inner / torch.outer(lengths, lengths)


def join_closest(cosines: Float[Tensor, "K K"], num_clusters: int) -> list[list[int]]:
    """Groups of rows: the two of largest mean cosine between members are joined until enough are."""
    cosines = cosines.cpu()  # one copy instead of a wait for every pair
    groups = [[row] for row in range(cosines.shape[0])]
    while len(groups) > num_clusters:
        pairs = [(first, second) for second in range(len(groups)) for first in range(second)]
        means = [float(cosines[groups[one]][:, groups[two]].mean()) for one, two in pairs]
        first, second = pairs[max(range(len(pairs)), key=means.__getitem__)]
        groups[first] = sorted(groups[first] + groups.pop(second))
    return sorted(groups)


def _mean(
    single: Mapping[str, LoRAFactors], weights: Float[Tensor, "K"], group: list[int]
) -> dict[str, LoRAFactors]:
    share = weights[group] / weights[group].sum()
    means = {}
    for name, factors in single.items():
        own, like = factors.take(group), share.to(factors.a)
        means[name] = LoRAFactors(torch.tensordot(like, own.a, dims=1), torch.tensordot(like, own.b, dims=1))
    return means


def _require_common_rank(view: ClusterView) -> None:
    padded = max(factors.rank for factors in view.state.layers.values())
    for row, rank in enumerate(view.participants.ranks.tolist()):
        if rank != padded:
            raise ValueError(
                f"participants.ranks[{row}] = {rank}, adapters have rank {padded}: FedInc is not defined for "
                "mixed ranks; give one rank"
            )
