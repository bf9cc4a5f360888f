"""What the catalogue says about a method."""

from dataclasses import dataclass
from typing import Any

from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.base import AbstractAggregationOperator, OnAir


@dataclass(frozen=True)
class Method:
    """A published aggregation method as it is implemented here.

    Costs are real numbers per adapted matrix of d outputs and n inputs, per device and round, with c = d + n, ranks
    r_k, m participants. `key` names the source in DESIGN.md. `reading` says what the source leaves open and how it is
    read here.
    """

    name: str
    operator: type[AbstractAggregationOperator[Any, Any]] | type[AirPFedLoRA]
    key: str
    on_air: OnAir
    trains: str
    definition: str
    upload: str
    broadcast: str
    exact: str
    mixed_ranks: str
    reading: str = ""

    @property
    def over_the_air(self) -> str:
        """What a scenario has to do for an uplink by over-the-air computation."""
        if self.on_air is OnAir.NONLINEAR:
            return f"needs {self.on_air.value}: refused over the air unless a route is chosen, and charged for it"
        return f"needs {self.on_air.value}: one superposed vector, whatever the number of devices"
