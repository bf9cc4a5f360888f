"""Problems refuse what cannot be, and know their weights and targets."""

import numpy as np
import pytest

import optim
from optim import AirCompProblem
from tests.optim.instances import combined, rayleigh, receiver
from tests.optim.test_degenerate import changed

H = rayleigh(np.random.default_rng(0), 3, 2)


def bad(channel=H, target_gains=0.3, power_budget_w=1.0, noise_power_w=0.1):
    return AirCompProblem(channel, target_gains, power_budget_w, noise_power_w)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"noise_power_w": -1.0}, r"noise_power_w = -1 is not allowed: .* above zero"),
        ({"noise_power_w": 0.0}, r"noise_power_w = 0 is not allowed"),
        ({"noise_power_w": float("nan")}, r"noise_power_w = nan"),
        ({"channel": np.where(np.eye(3, 2) > 0, np.nan, H)}, r"channel\[0, 0\] = nan.*: give finite numbers"),
        ({"channel": H[0]}, r"channel has shape \(2,\): give one row per device"),
        ({"channel": "loud"}, r"channel is no array of complex numbers"),
        ({"target_gains": [0.1, -0.2, 0.3]}, r"target_gains\[1\] = -0.2 is not allowed: .* into the symbol"),
        ({"target_gains": [0.1, 0.2]}, r"target_gains has shape \(2,\), which does not fit \(3,\)"),
        ({"power_budget_w": [1, 1, -3]}, r"power_budget_w\[2\] = -3 is not allowed: .* has 0 W"),
        ({"power_budget_w": [1, np.inf, 1]}, r"power_budget_w\[1\] = inf is not allowed"),
        ({"power_budget_w": None}, r"power_budget_w"),
    ],
)
def test_impossible_receivers_are_refused_where_they_are_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        bad(**fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"members": [[0, 1, 2], [3]]}, r"device 4 stands in 0 tasks"),
        ({"members": [[0, 1, 2], [3, 3]]}, r"device 3 stands in 2 tasks"),
        ({"members": [[0, 1, 2], [3, 5]]}, r"members\[1\]\[1\] = 5 is not allowed: devices are 0 to 4"),
        ({"members": [[0, 1, 2], [3, 4.5]]}, r"members\[1\] = .* give a list of device indices"),
        ({"members": [[0, 1, 2, 3, 4]]}, r"edge_channels has 2 entries but members has 1"),
        ({"edge_channels": [H, H]}, r"edge_channels\[1\] has 3 rows but members\[1\] has 2 devices"),
        ({"data_sizes": [1, 2, 0, 4, 5]}, r"data_sizes\[2\] = 0 is not allowed: .* drop it from the cohort"),
        ({"rank_shared": 0, "rank_personal": 0}, r"both 0: there is nothing to aggregate"),
        ({"rank_shared": -1}, r"rank_shared = -1 is not allowed"),
        ({"average_power_w": -0.1}, r"average_power_w\[0\] = -0.1|average_power_w = -0.1"),
        ({"noise_power_w": [0.1, 0.1]}, r"noise_power_w has shape \(2,\), which does not fit \(3,\)"),
        ({"payload_std": 3.0}, r"payload_std has 1 entries: give the pair"),
        ({"payload_std": (np.ones(5),)}, r"payload_std has 1 entries: give the pair"),
        ({"payload_std": (np.ones(5), -np.ones(5))}, r"payload_std \(personal\)\[0\] = -1"),
    ],
)
def test_impossible_combined_problems_are_refused_where_they_are_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(combined(), **fields)


def test_complex_targets_are_refused_and_not_cut():
    with pytest.raises(ValueError, match="target_gains is no array of real numbers: complex numbers"):
        AirCompProblem(np.ones((2, 2)), [0.5j, 0.5], 1.0, 0.1)


def test_an_unknown_method_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match="'phase-m' is unknown: did you mean 'phase-mm'"):
        optim.solve(receiver(), "phase-m")


@pytest.mark.parametrize("option, value", [("starts", 0), ("max_iterations", 0), ("tolerance", 0.0)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} = {value}"):
        optim.solve(receiver(), **{option: value})


def test_the_threshold_rule_refuses_what_it_cannot_solve():
    with pytest.raises(ValueError, match="3 antennas, but method 'threshold' is exact for one only"):
        optim.solve(receiver(), "threshold")
    with pytest.raises(ValueError, match="couples 3 receivers"):
        optim.solve(combined(), "threshold")


def test_a_receiver_without_devices_cannot_be_solved():
    with pytest.raises(ValueError, match="nothing to solve without devices"):
        optim.solve(AirCompProblem(np.zeros((0, 2)), 1.0, 1.0, 1.0))


def test_scalars_are_broadcast_and_stored_numbers_cannot_change():
    problem = AirCompProblem(np.tile(H, (4, 1, 1)), 0.5, [1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4])
    assert problem.batch_shape == (4,) and problem.num_devices == 3 and problem.num_antennas == 2
    assert problem.target_gains.shape == problem.power_budget_w.shape == (4, 3)
    assert problem.instance(2).noise_power_w == pytest.approx(0.3)
    with pytest.raises(ValueError, match="read-only"):
        problem.channel[0, 0, 0] = 1


def test_the_callers_arrays_stay_the_callers():
    channel = H.copy()
    problem = AirCompProblem(channel, 0.3, 1.0, 0.1)
    channel[:] = 0
    assert (problem.channel == H).all()


def test_weights_of_the_streams_add_up_to_one():
    problem = combined(seed=1)
    assert problem.shares == (0.75, 0.25)
    assert problem.stream_weights.sum() == pytest.approx(1)
    assert [targets.sum() for targets in problem.targets] == pytest.approx([1, 1, 1])


def test_payload_deviations_enter_the_targets_relative_to_their_mean_square():
    plain = combined(seed=2)
    shared, personal = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 4, 3, 2, 1])
    problem = changed(plain, payload_std=(shared, personal))
    shares = plain.data_sizes / plain.data_sizes.sum()
    reference = np.sqrt(shares @ (0.75 * shared**2 + 0.25 * personal**2))
    assert problem.reference_std == pytest.approx(reference)
    np.testing.assert_allclose(problem.targets[0], plain.targets[0] * shared / reference)
    task = plain.members[1]
    np.testing.assert_allclose(problem.targets[2], plain.targets[2] * personal[task] / reference)


def test_absolute_error_does_not_depend_on_the_unit_of_the_deviations():
    plain, shared = combined(seed=3), np.array([1.0, 2, 3, 4, 5])
    errors = []
    for unit in (1.0, 1e-6):
        problem = changed(plain, payload_std=(unit * shared, unit * shared[::-1]))
        errors.append((problem.reference_std / unit) ** 2 * optim.solve(problem).pi)
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)


def test_a_payload_that_does_not_vary_is_not_sent():
    std = np.array([1.0, 1e-13, 1, 1, 1]), np.ones(5)
    problem = changed(combined(seed=4), payload_std=std)
    solution = optim.solve(problem)
    assert problem.targets[0][1] == 0
    assert solution.design.base_station.transmit_scalars[1] == 0


def test_an_empty_batch_has_nothing_to_solve_or_to_bound():
    nothing = AirCompProblem(np.zeros((0, 3, 2)), 1.0, 1.0, 1.0)
    for use in (optim.solve, optim.lower_bound):
        with pytest.raises(ValueError, match=r"channel has shape \(0, 3, 2\): its batch is empty"):
            use(nothing)
