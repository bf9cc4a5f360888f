"""The examples that users copy must run."""

import re
from pathlib import Path

import numpy as np

import optim
from tests.optim.instances import rayleigh

README = Path(optim.__file__).with_name("README.md")


def test_the_readmes_examples_run(capsys):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) == 2
    exec("\n".join(examples), {})  # the second continues the first
    assert "no design is below" in capsys.readouterr().out


def test_the_readme_names_every_method():
    rows = re.findall(r"^\| `([a-z-]+)` \|", README.read_text(), re.MULTILINE)
    assert tuple(rows) == optim.METHODS


def test_the_public_interface_is_as_announced():
    rng = np.random.default_rng(0)
    channel, targets = rayleigh(rng, 5, 3), np.full(5, 0.2)
    problem = optim.AirCompProblem(
        channel=channel, target_gains=targets, power_budget_w=1.0, noise_power_w=0.1
    )
    solution = optim.solve(problem, method="auto")
    assert solution.lower_bound <= solution.mse
    assert solution.gap >= 0 and isinstance(solution.status, optim.Status)
    assert solution.design.transmit_scalars.shape == (5,)
    assert solution.design.receive_beamformer.shape == (3,)
    solution.verify(problem)
    combined = optim.CombinedProblem(
        base_station_channel=channel,
        edge_channels=[rayleigh(rng, 3, 2), rayleigh(rng, 2, 2)],
        members=[[0, 1, 2], [3, 4]],
        data_sizes=[10, 20, 30, 40, 50],
        rank_shared=6,
        rank_personal=2,
        average_power_w=1.0,
        peak_power_w=4.0,
        noise_power_w=0.1,
    )
    assert 0 < optim.solve(combined).pi < 1
