"""A comparison says what each method reaches, and why one reaches nothing."""

import numpy as np
import pytest

import optim
from optim.solvers.phase_mm import PhaseMajoriseMinimise
from tests.optim.instances import combined, receiver


@pytest.mark.parametrize("make", [receiver, combined])
def test_every_row_is_what_its_method_alone_gives(make):
    problem = make(seed=1)
    methods = ["auto", "full-power", "inversion"]
    comparison = optim.compare(problem, methods, starts=2)
    assert [row.method for row in comparison.rows] == methods
    for row in comparison.rows:
        alone = optim.solve(problem, row.method, starts=2)
        assert row.mse == (alone.pi if make is combined else alone.mse)
        assert row.gap == alone.gap
        assert row.mse_db == pytest.approx(10 * np.log10(row.mse))
        assert row.outcome == alone.status.name


def test_a_batch_is_shown_by_its_medians():
    problem = receiver(seed=2, batch=(5,))
    row = optim.compare(problem, ["auto"]).rows[0]
    assert row.mse == np.median(optim.solve(problem).mse)


def test_the_table_has_a_line_for_every_method_and_says_why_one_refuses():
    lines = str(optim.compare(receiver(seed=3), ["threshold", PhaseMajoriseMinimise()])).splitlines()
    assert lines[0].split() == ["method", "MSE", "dB", "gap", "%", "ms", "outcome"]
    assert "exact for one only" in lines[1]
    assert lines[2].startswith("PhaseMajoriseMinimise")


def test_an_unknown_method_is_refused_before_anything_is_solved():
    with pytest.raises(ValueError, match="did you mean 'auto'"):
        optim.compare(receiver(), ["auto", "auot"])
