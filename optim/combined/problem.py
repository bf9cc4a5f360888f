"""Two adapters, one energy budget: all aggregations of a round as one problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Int

from optim import checks
from optim.combined import fields
from optim.combined.shares import phase_shares
from optim.design import CombinedDesign
from optim.problem import AirCompProblem

# A device whose payload deviates less than this sends nothing: there is nothing to normalise by.
SILENT_STD = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True)
class CombinedProblem:
    r"""Every device serves the base station (shared adapter) and its edge server (personal adapter):

    .. math:: \min\ \Pi = \alpha_s \mathrm{MSE}_0 + \alpha_p \sum_n \frac{D_n}{D} \mathrm{MSE}_n
              \quad\text{subject to}\quad |b_k^\bullet|^2 \le P_k^{\rm peak},\
              \alpha_s |b_k^s|^2 + \alpha_p |b_k^p|^2 \le \bar P_k

    with :math:`\alpha_s = R_s / (R_s + R_p)`: the communication term of [Sun, Theorem 3, Eq. 41]. The average
    is taken over the round, since a phase lasts in proportion to its payload. Stream 0 is the base station,
    stream n edge server n.

    Args:
        base_station_channel: one row per device.
        edge_channels: for each edge server one row per member, in the order of `members`; with
            ``task_access="reuse"`` one row per device, as every edge server then hears everybody.
        members: for each edge server the devices of its task; every device stands in exactly one.
        data_sizes: D_k > 0.
        rank_shared, rank_personal: R_s and R_p; one of them may be 0, its streams then stay silent.
        shares: the pair (alpha_s, alpha_p) in place of ranks, in any unit, symbols say; they are made to sum
            to 1. Heads or biases in a payload make them differ from the ranks' shares.
        average_power_w, peak_power_w: one number, or one per device.
        noise_power_w: one number, or the base station's and then one per edge server.
        payload_std: standard deviations of each device's shared and personal payload. As payloads are sent at
            unit variance, targets then are aggregation weights times deviation over `reference_std`.
        misalignment_weight: kappa; a design minimises the sum of ``W_i (kappa misalignment_i + noise_i)``. 1
            gives Pi; a large kappa approaches uniform forcing, whose aggregate is unbiased.
        task_access: "orthogonal", or "reuse" of one channel by all tasks at once. Then devices of other tasks
            add :math:`\sum_j |m_n^H h_{nj} b_j^p|^2` to the misalignment at edge server n.
    """

    # Anything array-like comes in; what stands on the left of each `|` is kept.
    base_station_channel: Complex[np.ndarray, "K N"] | Any
    edge_channels: tuple[Complex[np.ndarray, "_ _"], ...] | Any
    members: tuple[Int[np.ndarray, "_"], ...] | Any
    data_sizes: Float[np.ndarray, "K"] | Any
    rank_shared: int | None = None
    rank_personal: int | None = None
    shares: tuple[float, float] | Any = None
    average_power_w: Float[np.ndarray, "K"] | Any
    peak_power_w: Float[np.ndarray, "K"] | Any
    noise_power_w: Float[np.ndarray, "E1"] | Any
    payload_std: tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]] | Any = None
    misalignment_weight: float = 1.0
    task_access: str = "orthogonal"

    def __post_init__(self) -> None:
        base_channel = fields.matrix("base_station_channel", self.base_station_channel)
        num_devices = len(base_channel)
        if num_devices == 0:
            raise ValueError("base_station_channel has no rows: give one per device")
        members = tuple(fields.member_list(n, task) for n, task in enumerate(self.members))
        fields.check_partition(members, num_devices)
        channels = tuple(
            fields.matrix(f"edge_channels[{n}]", channel) for n, channel in enumerate(self.edge_channels)
        )
        fields.check_access(self.task_access)
        fields.check_rows(channels, members, num_devices if self.reuse else None)
        freeze = object.__setattr__
        freeze(self, "shares", phase_shares(self.rank_shared, self.rank_personal, self.shares))
        freeze(self, "misalignment_weight", fields.weight(self.misalignment_weight))
        freeze(self, "base_station_channel", base_channel)
        freeze(self, "edge_channels", channels)
        freeze(self, "members", members)
        sizes = fields.per_device("data_sizes", self.data_sizes, num_devices)
        checks.positive(
            "data_sizes", sizes, "a device without data cannot be aggregated; drop it from the cohort"
        )
        freeze(self, "data_sizes", sizes)
        for field in ("average_power_w", "peak_power_w"):
            power_w = fields.per_device(field, getattr(self, field), num_devices)
            checks.non_negative(field, power_w, "a device that stays silent has 0 W")
            freeze(self, field, power_w)
        noise_w = checks.real_array("noise_power_w", self.noise_power_w)
        checks.positive("noise_power_w", noise_w, "give the receiver's noise power in watts, above zero")
        freeze(self, "noise_power_w", checks.broadcast("noise_power_w", noise_w, (1 + len(members),)))
        freeze(self, "payload_std", fields.payload_std(self.payload_std, num_devices))

    @property
    def num_devices(self) -> int:
        """K."""
        return len(self.base_station_channel)

    @property
    def num_edge_servers(self) -> int:
        """E."""
        return len(self.members)

    @property
    def reuse(self) -> bool:
        """Whether all tasks share one channel."""
        return self.task_access == "reuse"

    @property
    def blocks(self) -> "tuple[CombinedProblem, ...]":
        """The problem itself: one coherence block."""
        return (self,)

    def joined(self, designs: Sequence[CombinedDesign]) -> CombinedDesign:
        """The design of the whole problem from one per block."""
        (design,) = designs
        return design

    @property
    def block_shares(self) -> tuple[float, ...]:
        """The one block takes all of the round."""
        return (1.0,)

    @property
    def task_sizes(self) -> Float[np.ndarray, "E"]:
        """``D_n``, the data of each task."""
        return np.array([self.data_sizes[task].sum() for task in self.members], dtype=np.float64)

    @cached_property
    def stream_weights(self) -> Float[np.ndarray, "E1"]:
        """Weight of each stream's error in Pi; they sum to 1."""
        shared, personal = self.shares
        return np.concatenate([[shared], personal * self.task_sizes / self.data_sizes.sum()])

    @property
    def reference_std(self) -> float:
        r"""Deviation that all targets are relative to, a weighted root mean square.

        .. math:: \sigma_t^2 = \sum_k \frac{D_k}{D} \Big( \frac{R_s}{R} \varsigma_{k,s}^2
                  + \frac{R_p}{R} \varsigma_{k,p}^2 \Big)

        1 without `payload_std`, or if every payload is constant. ``sigma_t^2 * Pi`` does not depend on it.
        """
        if self.payload_std is None:
            return 1.0
        shared, personal = self.payload_std
        power = self.shares[0] * shared**2 + self.shares[1] * personal**2
        reference = float(np.sqrt((self.data_sizes * power).sum() / self.data_sizes.sum()))
        return reference if reference > 0 else 1.0

    @cached_property
    def targets(self) -> tuple[Float[np.ndarray, "_"], ...]:
        """Effective target gains of each stream's devices."""
        shared, personal = self._relative_std()
        base = self.data_sizes / self.data_sizes.sum() * shared
        edges = [
            self.data_sizes[task] / self.data_sizes[task].sum() * personal[task] for task in self.members
        ]
        return base, *edges

    def streams(self, power_w: Sequence[Float[np.ndarray, "_"]]) -> tuple[AirCompProblem, ...]:
        """Each stream alone, with the given power caps of its devices."""
        channels = [self.own_channel(stream) for stream in range(1 + self.num_edge_servers)]
        stacked = zip(channels, self.targets, power_w, self.noise_power_w, strict=True)
        return tuple(AirCompProblem(*parts, self.misalignment_weight) for parts in stacked)

    @cached_property
    def streams_at_peak(self) -> tuple[AirCompProblem, ...]:
        """Each stream alone under its peak powers; errors of a given design do not depend on the caps."""
        return self.streams([self.peak_power_w, *(self.peak_power_w[task] for task in self.members)])

    def devices_of(self, stream: int) -> Int[np.ndarray, "_"]:
        """Who serves a stream: everybody the base station, the members of a task its edge server."""
        return self.members[stream - 1] if stream else np.arange(self.num_devices)

    def own_channel(self, stream: int) -> Complex[np.ndarray, "_ _"]:
        """Channel of the devices that serve a stream."""
        if stream == 0:
            return self.base_station_channel
        channel = self.edge_channels[stream - 1]
        return channel[self.members[stream - 1]] if self.reuse else channel

    def _relative_std(self) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        if self.payload_std is None:
            return np.ones(self.num_devices), np.ones(self.num_devices)
        reference = self.reference_std
        shared, personal = (np.where(std < SILENT_STD, 0.0, std) / reference for std in self.payload_std)
        return shared, personal
