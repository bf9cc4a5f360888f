"""What the catalogue says about a method."""

from dataclasses import dataclass
from typing import Any

from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.base import AbstractAggregationOperator, OnAir


@dataclass(frozen=True)
class Method:
    """A published aggregation method as it is implemented here.

    Costs are real numbers per adapted matrix of d outputs and n inputs, per device and round, with c = d + n,
    ranks r_k and m participants. `key` names the source in DESIGN.md. `reading` says what the source leaves
    open and how it is read here. `control` is what a device tells on the control channel; normalised by its
    root mean square, a payload has no mean to tell.
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
    control: str = "mean and deviation of the payload"

    @property
    def over_the_air(self) -> str:
        """What over-the-air computation means for the method."""
        if self.on_air is OnAir.NONLINEAR:
            return f"the server needs {self.on_air.value}: refused, unless a route is chosen and charged for"
        return f"the server needs {self.on_air.value}: one superposed vector, whatever the number of devices"
