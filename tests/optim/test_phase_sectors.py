"""The pieces of a proof: boxes, their bounds, and the convex problems behind them."""

import numpy as np
import pytest

from optim import hinge, normal_form
from optim.phase_step import arriving, reduced_error
from optim.proof import priced_hinge
from optim.proof.frontier import Frontier
from optim.proof.nodes import Nodes, children, joined, root_nodes
from optim.proof.priced_hinge import PricedHinges, certified_minima
from optim.proof.sectors import LEVELS, SectorRelaxation
from optim.threshold import scaled_along
from tests.optim.instances import receiver


def boxes_around(phases_rad, width_rad, rng) -> Nodes:
    """One box around each set of phases, off centre."""
    count = len(phases_rad)
    return Nodes(
        problem=np.zeros(count, dtype=int),
        centre_rad=phases_rad + rng.uniform(-0.5, 0.5, phases_rad.shape) * width_rad,
        width_rad=width_rad,
        level=rng.integers(len(LEVELS), size=count),
        bound=np.zeros(count),
        point=np.zeros((count, 6)),
        branch=np.zeros(count, dtype=int),
    )


@pytest.mark.parametrize("steps", [1, 12])
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0, 80.0])
def test_no_point_in_a_box_beats_its_bound_whatever_the_multipliers(snr_db, steps, monkeypatch):
    monkeypatch.setattr(priced_hinge, "MAX_STEPS", steps)
    rng = np.random.default_rng(int(snr_db) + 100)
    form = normal_form.apply(receiver(seed=2, devices=6, antennas=3, snr_db=snr_db))
    rows, targets = (np.repeat(array, 400, axis=0) for array in (form.rows, form.targets))
    directions = rng.standard_normal((400, 3)) + 1j * rng.standard_normal((400, 3))
    points = scaled_along(rows, targets, directions)
    relaxation = SectorRelaxation(form.rows, form.targets, rng.uniform(0, 1, form.targets.shape))
    width_rad = rng.choice([0.01, 0.3, 1.0, 2.0, 2 * np.pi], size=(400, 6))
    boxes = boxes_around(np.angle(arriving(rows, points)), width_rad, rng)
    errors = reduced_error(rows, targets, points)
    bound, _ = relaxation.bound(boxes, errors)
    assert (bound <= errors * (1 + 1e-12)).all()
    assert (bound > 0).any()


def test_a_narrow_box_is_bounded_by_the_best_point_with_its_phases():
    form = normal_form.apply(receiver(seed=3, devices=6, antennas=3, snr_db=15.0))
    phases_rad = np.random.default_rng(0).uniform(0, 2 * np.pi, (20, 6))
    turned = np.exp(-1j * phases_rad)[..., None] * form.rows
    free = hinge.minimise_hinge(
        hinge.real_rows(turned), np.repeat(form.targets, 20, axis=0), np.zeros((20, 6))
    )
    shortfall = np.maximum(form.targets - arriving(turned, hinge.complex_point(free)).real, 0.0)
    at_least = (free**2).sum(axis=-1) + (shortfall**2).sum(axis=-1)
    boxes = boxes_around(phases_rad, np.full((20, 6), 1e-9), np.random.default_rng(1))
    relaxation = SectorRelaxation(form.rows, form.targets, np.ones_like(form.targets))
    bound, _ = relaxation.bound(boxes, at_least)
    lowest = boxes.level == 0
    assert (bound[lowest] >= at_least[lowest] * (1 - 1e-3)).all()


def random_hinges(rng, count=50, rows=9, dimension=4) -> PricedHinges:
    factors = rng.standard_normal((count, dimension, dimension))
    matrix = factors @ np.swapaxes(factors, -1, -2) + 0.1 * np.eye(dimension)
    return PricedHinges(
        matrix=matrix,
        inverse=np.linalg.inv(matrix),
        rows=rng.standard_normal((count, rows, dimension)),
        targets=rng.uniform(-0.2, 1.0, (count, rows)),
        prices=rng.choice([0.0, 1.0, 30.0], size=(count, rows)),
        enough=np.full(count, 100.0),
    )


def values_at(problems: PricedHinges, point: np.ndarray) -> np.ndarray:
    missing = np.maximum(problems.targets - hinge.products(problems.rows, point), 0.0)
    quadratic = (point * (problems.matrix @ point[..., None])[..., 0]).sum(axis=-1)
    return quadratic + (problems.prices * missing**2).sum(axis=-1)


def test_any_multipliers_certify_less_than_any_point_costs():
    rng = np.random.default_rng(0)
    problems = random_hinges(rng)
    for _ in range(20):
        multipliers = rng.exponential(size=problems.targets.shape) * (problems.prices > 0)
        point = 0.3 * rng.standard_normal((50, 4))
        assert (problems.dual_value(multipliers) <= values_at(problems, point) * (1 + 1e-12)).all()


def test_the_certified_minimum_is_the_minimum(monkeypatch):
    monkeypatch.setattr(priced_hinge, "LEFT_UNCERTIFIED", 1e-13)
    monkeypatch.setattr(priced_hinge, "MAX_STEPS", 50)
    problems = random_hinges(np.random.default_rng(1))
    certified, point = certified_minima(problems, np.zeros((50, 4)))
    np.testing.assert_allclose(certified, values_at(problems, point), rtol=1e-9, atol=1e-12)


def test_a_root_fixes_one_phase_and_frees_the_others():
    roots = root_nodes(np.array([[0.1, 0.5, 0.4], [0.7, 0.0, 0.3]]), dimension=4, level=1)
    np.testing.assert_array_equal(roots.width_rad == 0, [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(roots.branch, [2, 2])


def test_children_divide_their_parent():
    parents = joined([root_nodes(np.array([[0.5, 0.3, 0.2]]), dimension=4, level=1) for _ in range(4)])
    for _ in range(3):
        parents = children(parents)
    assert len(parents) == 4 * 3 * 2 * 2
    np.testing.assert_allclose(parents.width_rad[:, 1].reshape(4, -1).sum(axis=-1), 2 * np.pi)
    phase_rad = np.random.default_rng(0).uniform(-np.pi, np.pi, 100)
    away_rad = np.angle(np.exp(1j * (phase_rad[:, None] - parents.centre_rad[:12, 1])))
    np.testing.assert_array_equal((np.abs(away_rad) <= parents.width_rad[:12, 1] / 2).sum(axis=-1), 1)


def test_a_frontier_gives_the_lowest_bounds_first():
    rng = np.random.default_rng(0)
    root = root_nodes(np.array([[0.5, 0.3, 0.2]]), dimension=4, level=1)
    frontier, kept = Frontier(root), [0.0]
    for _ in range(60):
        popped = frontier.pop(int(rng.integers(1, 4)))
        kept.sort()
        np.testing.assert_array_equal(np.sort(popped.bound), kept[: len(popped)])
        kept = kept[len(popped) :]
        fresh = children(popped)
        fresh.bound[:] = rng.random(len(fresh))
        frontier.push(fresh)
        kept += fresh.bound.tolist()
        assert len(frontier) == len(kept)
        assert frontier.bound == min(kept)
