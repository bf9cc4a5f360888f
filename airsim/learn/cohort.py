"""The devices of a federation as one stream of gradients, in chunks of a fixed size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from airsim.errors import DivergenceError
from airsim.learn.adapters import DualAdapters, LoRAFactors, flatten
from airsim.learn.batches import pad
from airsim.learn.data.tasks import FederatedData, Split
from airsim.learn.models.base import AbstractModel, DeviceGradients
from airsim.learn.parallel import in_order
from airsim.randomness import RandomStreams

# Sums over chunks are added in this order, so another number gives other bits.
DEVICES_PER_CHUNK = 64
# Zero rows that may be computed with in order to save another pass over the layers.
PADDING_ROWS = 512


@dataclass(frozen=True)
class GradientChunk:
    """What some devices would send: one row per device, in the order of `devices`."""

    devices: tuple[int, ...]
    tasks: tuple[int, ...]
    losses: Float[Tensor, "K"]
    shared: Float[Tensor, "K Ds"]
    personal: Float[Tensor, "K Dp"]


@dataclass(frozen=True)
class Cohort:
    """All devices with their data, and how many of their samples they use in a round.

    A mini-batch is drawn without replacement, anew in every round, from the stream of its round and device; a
    device with fewer samples uses them all. `learning_rate` is only quoted where training diverges.
    """

    data: FederatedData
    batch: Literal["full"] | int
    streams: RandomStreams
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.batch != "full" and self.batch < 1:
            raise ValueError(f"batch = {self.batch}: a device needs a sample; give 'full' or at least 1")

    @property
    def num_devices(self) -> int:
        """Devices in the federation."""
        return len(self.data.devices)

    @property
    def data_sizes(self) -> tuple[int, ...]:
        """Samples that each device holds: the aggregation weights before they are normalised."""
        return tuple(split.size for split in self.data.devices)

    def samples_per_round(self, device: int) -> int:
        """Samples that a device's gradient is computed from."""
        size = self.data.devices[device].size
        return size if self.batch == "full" else min(self.batch, size)

    def in_order(self, participants: Sequence[int]) -> list[int]:
        """The participants by ascending number; each must be named once."""
        devices = sorted(set(participants))
        if len(devices) < len(participants) or not set(devices) <= set(range(self.num_devices)):
            raise ValueError(
                f"participants = {tuple(participants)}: "
                f"name each device once, from 0 to {self.num_devices - 1}"
            )
        return devices

    def rows(self, device: int, round_index: int) -> Int[Tensor, "B"]:
        """Which of its samples a device uses in a round, drawn on the CPU wherever the samples are."""
        size, held = self.samples_per_round(device), self.data.devices[device].size
        if size == held:
            return torch.arange(held)
        rng = self.streams.generator("batch", round_index, device)
        return torch.from_numpy(rng.choice(held, size, replace=False, shuffle=False))

    def gradient_chunks(
        self,
        model: AbstractModel,
        adapters: DualAdapters,
        scale: float,
        round_index: int,
        participants: Sequence[int],
    ) -> Iterator[GradientChunk]:
        """Gradients of the participants' mean losses, by ascending device; the same bits every time.

        Raises:
            DivergenceError: the loss of a device is not finite.
        """
        devices = self.in_order(participants)
        starts = range(0, len(devices), DEVICES_PER_CHUNK)
        groups = [devices[start : start + DEVICES_PER_CHUNK] for start in starts]

        def compute(members: list[int]) -> GradientChunk:
            return self._chunk(model, adapters, scale, round_index, members)

        for chunk in in_order(compute, groups, device=self.data.device):
            self.require_finite(chunk.devices, chunk.losses, round_index)
            yield chunk

    def _chunk(
        self,
        model: AbstractModel,
        adapters: DualAdapters,
        scale: float,
        round_index: int,
        devices: list[int],
    ) -> GradientChunk:
        groups = self._groups(devices)
        parts = []
        for task, members in groups:
            batch = pad([self._draw(device, round_index) for device in members])
            parts.append(model.for_task(task).device_gradients(adapters.for_task(task), scale, batch))
        gradients = _join(parts)
        order = np.argsort([device for _, members in groups for device in members])
        back = torch.from_numpy(order).to(gradients.losses.device)
        shared, personal = _payloads(gradients.layers, adapters)
        tasks = tuple(self.data.task_of_device[device] for device in devices)
        return GradientChunk(tuple(devices), tasks, gradients.losses[back], shared[back], personal[back])

    def _groups(self, devices: list[int]) -> list[tuple[int, list[int]]]:
        """What one padded pass serves: a task, and devices of it with batches of similar size."""
        groups: list[tuple[int, list[int]]] = []
        padding = 0
        order = sorted((self.data.task_of_device[k], self.samples_per_round(k), k) for k in devices)
        for task, size, device in order:
            if groups and groups[-1][0] == task:
                members = groups[-1][1]
                padding += len(members) * (size - self.samples_per_round(members[-1]))
                if padding <= PADDING_ROWS:
                    members.append(device)
                    continue
            groups.append((task, [device]))
            padding = 0
        return groups

    def _draw(self, device: int, round_index: int) -> Split:
        split = self.data.devices[device]
        if self.samples_per_round(device) == split.size:
            return split
        chosen = self.rows(device, round_index).to(split.x.device)
        return Split(split.x[chosen], split.y[chosen])

    def require_finite(self, devices: Sequence[int], losses: Float[Tensor, "K"], round_index: int) -> None:
        """Raise `DivergenceError` for the first of these devices whose loss is not finite."""
        for device, loss in zip(devices, losses.tolist(), strict=True):
            if not math.isfinite(loss):
                rate = "" if self.learning_rate is None else f" (now {self.learning_rate:g})"
                raise DivergenceError(
                    f"round {round_index}: the loss of device {device} is {loss}; training has diverged. "
                    f"Lower learning.learning_rate{rate} or learning.adapters.scale"
                )


def _join(parts: list[DeviceGradients]) -> DeviceGradients:
    """The devices of all parts, one after the other."""
    layers = {
        name: LoRAFactors(
            torch.cat([part.layers[name].a for part in parts]),
            torch.cat([part.layers[name].b for part in parts]),
        )
        for name in parts[0].layers
    }
    return DeviceGradients(torch.cat([part.losses for part in parts]), layers)


def _payloads(layers: Mapping[str, LoRAFactors], adapters: DualAdapters) -> tuple[Tensor, Tensor]:
    """Shared and personal payloads of gradients with respect to fused factors."""
    # A layer may be personal as a whole, such as a head that is trained.
    split = {name: factors.split(adapters.shared[name].rank) for name, factors in layers.items()}
    shared = flatten({name: pair[0] for name, pair in split.items()})
    return shared, flatten({name: pair[1] for name, pair in split.items()})
