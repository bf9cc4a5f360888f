"""Values of the wrong kind are refused by field, value and way out, not in the words of numpy."""

import os
import subprocess
import sys

import numpy as np
import pytest

import optim
from tests.optim.instances import combined, faded, receiver

# Whatever the type checker of the tests would refuse first runs in a process without it.
WRONG = {
    "optim.solve({})": "problem is a dict: give an AirCompProblem",
    "optim.solve(receiver(), None)": "method is None; choose a name from auto",
    "optim.solve(receiver(), type(solver))": "method is SequentialQuadratic: give an instance of it",
    "optim.solve(receiver(), seed=-1)": "seed = -1 is not allowed: give a whole number of at least 0",
    "optim.solve(receiver(), seed=None)": "seed = None is not allowed: give a whole number",
    "optim.solve(receiver(), seed=1.5)": "seed = 1.5 is not allowed: give a whole number",
    "optim.solve(receiver(), tolerance='1e-3')": "tolerance = '1e-3' is not allowed: give a number above",
    "optim.solve(receiver(), gap=None)": "gap = None is not allowed: give a number above zero",
    "optim.solve(receiver(), starts='8')": "starts = '8' is not allowed: give a whole number",
    "optim.lower_bound(receiver(), tolerance=-1)": "tolerance = -1 is not allowed: give a number above zero",
    "optim.compare(receiver(), 'auto')": "methods = 'auto' is one name: give a list, ['auto']",
    "optim.csi_report(combined())": "problem is a CombinedProblem: a report is for one receiver",
    "receiver().replaced(error_covariance=0.1)": "error_covariance is a float: give an ErrorCovariance",
    "receiver().replaced(error_covariance={})": "error_covariance is a dict: give an ErrorCovariance",
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    script = f"""
import optim
from optim.solvers.sequential_quadratic import SequentialQuadratic
from tests.optim.instances import combined, receiver
solver = SequentialQuadratic()
for call in {list(WRONG)!r}:
    try:
        print(eval(call))
    except ValueError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return dict(zip(WRONG, run.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("call", WRONG)
def test_what_is_of_the_wrong_kind_is_refused_with_the_way_out(refusals, call):
    assert refusals[call].startswith(WRONG[call])


def test_an_unknown_method_is_looked_for_among_references_and_in_lower_case():
    with pytest.raises(ValueError, match="'SDR' is unknown: did you mean 'sdr'"):
        optim.solve(receiver(), "SDR")
    with pytest.raises(ValueError, match="did you mean 'ideal-digital'.*choose from auto, .*error-free"):
        optim.compare(receiver(), ["ideal-digitl"])


def test_a_level_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="give a number"):
        optim.dbm(float("nan"))
    assert optim.dbm(-np.inf) == 0


@pytest.mark.parametrize(
    "made_for, problem",
    [
        (receiver(devices=5), receiver()),
        (receiver(antennas=2), receiver()),
        (receiver(batch=(2,)), receiver()),
        (combined(tasks=(3, 3)), combined()),
        (combined(tasks=(3, 1, 1)), combined()),
    ],
)
def test_a_design_of_other_sizes_is_neither_evaluated_nor_verified(made_for, problem):
    solution = optim.solve(made_for, starts=1)
    with pytest.raises(ValueError, match="give a design of"):
        optim.evaluate(problem, solution.design)
    with pytest.raises(optim.VerificationError, match="give a design of"):
        solution.verify(problem)


def test_a_design_that_is_no_number_is_not_evaluated():
    problem = receiver()
    design = optim.solve(problem, starts=1).design
    broken = optim.TransceiverDesign(design.transmit_scalars * np.nan, design.receive_beamformer)
    with pytest.raises(ValueError, match="design has an entry that is not finite"):
        optim.evaluate(problem, broken)


def test_a_design_is_evaluated_on_other_channels():
    problem = combined()
    assert optim.evaluate(faded(problem, 1), optim.solve(problem, starts=1).design).pi > 0


def test_the_bound_alone_is_never_below_the_closed_forms():
    for seed in range(5):
        problem = receiver(seed=seed, devices=20, antennas=8)
        assert optim.lower_bound(problem, tolerance=10.0) >= optim.lower_bound(problem, tolerance=np.inf)


def test_a_table_of_a_batch_says_that_its_errors_are_medians():
    assert "median MSE dB" in str(optim.compare(receiver(batch=(2,)), ["full-power"]))
    assert "median" not in str(optim.compare(receiver(), ["full-power"]))
