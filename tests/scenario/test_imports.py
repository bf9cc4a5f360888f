"""Checking a scenario stays quick."""

import subprocess
import sys


def test_reading_a_scenario_loads_no_heavy_library():
    code = (
        "import sys, airsim.scenario.load\n"
        "heavy = {'torch', 'cvxpy', 'matplotlib', 'scipy', 'simpy', 'sklearn'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
