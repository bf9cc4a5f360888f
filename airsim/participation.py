"""Who takes part in a round: the draw, and the part of the federation that is left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from airsim.federation import Federation
from airsim.learn.cohort import GradientChunk
from airsim.randomness import RandomStreams
from airsim.uplink import AbstractUplink, PreparedUplink


@dataclass(frozen=True)
class ParticipantDraw:
    """Equally many devices in every round, drawn uniformly without replacement.

    The draw depends on the seed and the round alone, so that all methods meet the same participants.
    """

    num_devices: int
    per_round: int
    streams: RandomStreams

    def __post_init__(self) -> None:
        if not 1 <= self.per_round <= self.num_devices:
            raise ValueError(
                f"per_round = {self.per_round} with {self.num_devices} devices: give 1 to {self.num_devices}"
            )

    def __call__(self, round_index: int) -> list[int]:
        rng = self.streams.generator("participants", round_index)
        return sorted(rng.choice(self.num_devices, self.per_round, replace=False).tolist())


@dataclass(frozen=True)
class Present:
    """The devices of one round, by ascending number; inside a round they and their tasks count from 0.

    A task none of whose devices take part has no stream: its edge server hears nothing and costs nothing.
    """

    everybody: Federation
    devices: tuple[int, ...]

    def __post_init__(self) -> None:
        known = range(len(self.everybody.data_sizes))
        if not self.devices or list(self.devices) != sorted(set(self.devices) & set(known)):
            raise ValueError(
                f"participants = {self.devices}: name at least one device, each once and in their order, "
                f"from 0 to {len(known) - 1}"
            )

    @property
    def is_everybody(self) -> bool:
        """Whether nobody sits out."""
        return len(self.devices) == len(self.everybody.data_sizes)

    @cached_property
    def tasks(self) -> tuple[int, ...]:
        """The tasks that have participants."""
        own = set(self.devices)
        return tuple(task for task, members in enumerate(self.everybody.members) if own & set(members))

    @cached_property
    def federation(self) -> Federation:
        """The participants alone, with weights over their own data."""
        if self.is_everybody:
            return self.everybody
        place = {device: row for row, device in enumerate(self.devices)}
        return replace(
            self.everybody,
            members=tuple(
                tuple(place[device] for device in self.everybody.members[task] if device in place)
                for task in self.tasks
            ),
            data_sizes=self.everybody.data_sizes[list(self.devices)],
            receivers=(0, *(task + 1 for task in self.tasks)),
        )

    def uplink(self, uplink: AbstractUplink) -> AbstractUplink:
        """The links of the participants; what they meet does not depend on the others."""
        if self.is_everybody:
            return uplink
        own = set(self.devices)
        rows = [self.devices]
        for task in self.tasks:
            members = self.everybody.members[task]
            rows.append(tuple(row for row, device in enumerate(members) if device in own))
        return uplink.among(self.federation, rows)

    def renumbered(self, chunks: Iterator[GradientChunk]) -> Iterator[GradientChunk]:
        """The same payloads, with devices and tasks as they count inside the round."""
        place = {device: row for row, device in enumerate(self.devices)}
        stream = {task: row for row, task in enumerate(self.tasks)}
        for chunk in chunks:
            devices = tuple(place[device] for device in chunk.devices)
            yield replace(chunk, devices=devices, tasks=tuple(stream[task] for task in chunk.tasks))

    @property
    def metrics(self) -> dict[str, list[int]]:
        """Who takes part, where it is not everybody."""
        return {} if self.is_everybody else {"participants": list(self.devices)}

    def report(self, prepared: PreparedUplink) -> dict[str, float | str | list[float]]:
        """What the design says of itself, with an error of 0 for every stream that is silent."""
        found = dict(prepared.report)
        predicted = found["mse_predicted"]
        assert isinstance(predicted, list)
        return found | {"mse_predicted": self.of_all_streams(predicted)}

    def of_all_devices(self, values: Sequence[float] | Float[np.ndarray, "P"]) -> list[float]:
        """One value per device of the federation: 0 for those who sit out."""
        spread = [0.0] * len(self.everybody.data_sizes)
        for device, value in zip(self.devices, values, strict=True):
            spread[device] = float(value)
        return spread

    def of_all_streams(self, values: Sequence[float]) -> list[float]:
        """One value per stream, that of the base station first: 0 where nobody sends."""
        spread = [0.0] * (1 + len(self.everybody.members))
        for stream, value in zip((0, *(task + 1 for task in self.tasks)), values, strict=True):
            spread[stream] = float(value)
        return spread
