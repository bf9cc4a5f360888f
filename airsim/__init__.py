"""airsim: federated LoRA over the air, from fading channels to accuracy.

`Scenario` says what to simulate, `run` simulates it, `sweep` runs a grid of it. All three load on first
use, so that importing airsim stays cheap.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airsim.scenario import Scenario as Scenario
    from airsim.simulate import run as run
    from airsim.study import sweep as sweep

__all__ = ["Scenario", "__version__", "run", "sweep"]

__version__ = "0.1.0"

_HOMES = {"Scenario": "airsim.scenario", "run": "airsim.simulate", "sweep": "airsim.study"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'airsim' has no attribute '{name}'; it has {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
