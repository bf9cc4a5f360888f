"""Who stands where, with how many antennas and how much power."""

from typing import Annotated

from pydantic import Field, model_validator

from airsim.scenario.fields import (
    ComputeSpeed,
    Coordinate,
    Count,
    DataRate,
    Length,
    Power,
    PowerConsumption,
    Section,
    default,
    exactly,
)
from airsim.scenario.problems import Problem, ProblemsError
from optim import quantity

PEAK_ABOVE_AVERAGE_DB = 6


class BaseStation(Section):
    """The receiver of the shared adapter: all devices are heard by it."""

    antennas: Count = 8
    position: Annotated[tuple[Coordinate, Coordinate, Coordinate], exactly(3, "[0 m, 0 m, 10 m]")] = default(
        ("0 m", "0 m", "10 m")
    )


class EdgeServers(Section):
    """One receiver per task, on a ring around the base station; the number of tasks is their number."""

    antennas: Count = 4
    ring_radius: Length = default("150 m")
    height: Length = default("10 m")


class Devices(Section):
    """Single-antenna devices, placed in a ring around their edge server."""

    per_edge_server: Count = 5
    min_distance: Length = default("20 m")
    max_distance: Length = default("60 m")
    height: Length = default("1.5 m")
    average_power: Power = default("20 dBm")
    peak_power: Power | None = None
    speed: ComputeSpeed = default("1 GFLOP/s")
    compute_power: PowerConsumption = default("1 W")

    @property
    def peak_power_w(self) -> float:
        """Largest power in one phase; 6 dB above the average power unless the scenario says otherwise."""
        if self.peak_power is not None:
            return self.peak_power
        peak_w = self.average_power * quantity.db(PEAK_ABOVE_AVERAGE_DB)
        return quantity.canonical(quantity.format(peak_w, quantity.POWER), quantity.POWER)

    @model_validator(mode="after")
    def _check(self) -> "Devices":
        problems = []
        if self.min_distance > self.max_distance:
            near, far = (
                quantity.format(d, quantity.DISTANCE) for d in (self.min_distance, self.max_distance)
            )
            message = f"min_distance {near} is farther than max_distance {far}"
            hint = "lower min_distance or raise max_distance"
            problems.append(Problem(message, hint, ("min_distance",), (("max_distance",),)))
        if self.peak_power_w < self.average_power:
            peak, average = (
                quantity.format(p, quantity.POWER) for p in (self.peak_power_w, self.average_power)
            )
            message = f"peak_power {peak} is below average_power {average}, which could then never be reached"
            hint = "raise peak_power, lower average_power or leave peak_power out"
            problems.append(Problem(message, hint, ("peak_power",), (("average_power",),)))
        if problems:
            raise ProblemsError(*problems)
        return self


class Network(Section):
    """One cell: a base station, one edge server per task, and the devices of each."""

    base_station: BaseStation = Field(default_factory=BaseStation)
    edge_servers: EdgeServers = Field(default_factory=EdgeServers)
    devices: Devices = Field(default_factory=Devices)


class Links(Section):
    """Error-free digital links: the broadcast of adapters, and the control channel."""

    downlink_rate: DataRate = default("10 Mbit/s")
    control_rate: DataRate = default("1 Mbit/s")
