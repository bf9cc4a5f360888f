"""Many runs of one scenario: a grid, its trials, and the table they fill."""

from airsim.study.engine import SweepResult, TrialOutcome, sweep
from airsim.study.table import StoredSweep, read_sweep

__all__ = ["StoredSweep", "SweepResult", "TrialOutcome", "read_sweep", "sweep"]
