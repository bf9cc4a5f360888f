"""Certified designs of combined problems: stationary, near the bound, and blind to names and units."""

from dataclasses import replace

import numpy as np
import pytest

import optim
from optim.combined.solution import phase_power_w, phase_shares
from tests.optim.instances import combined, faded, rayleigh, reusing


def energy_identity(problem, solution) -> tuple[float, float]:
    """Both sides of ``sum_k nu_k energy_k + sum mu |b|^2 = sum_i W_i sigma_i^2 |m_i|^2``.

    Multiplying the devices' stationarity by conj(b), their prices are ``W |g| (w - |g| b) / b`` in total.
    """
    weights, design = problem.stream_weights, solution.design
    members = (np.arange(problem.num_devices), *problem.members)
    prices, noise = 0.0, 0.0
    for stream, part in enumerate(design.streams):
        own = problem.own_channel(stream) @ part.receive_beamformer.conj() * part.transmit_scalars
        prices += weights[stream] * float((own.conj() * (problem.targets[stream] - own)).sum().real)
        noise += (
            weights[stream] * problem.noise_power_w[stream] * np.linalg.norm(part.receive_beamformer) ** 2
        )
        if stream and problem.reuse:
            for other in range(1, len(members)):
                if other != stream:
                    beam = design.streams[other].receive_beamformer.conj()
                    leaked = problem.edge_channels[other - 1][members[stream]] @ beam * part.transmit_scalars
                    prices -= weights[other] * float((np.abs(leaked) ** 2).sum())
    return prices, noise


@pytest.mark.parametrize("peak", [1.3, 4.0])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_a_design_keeps_the_energy_identity_of_stationary_points(snr_db, peak):
    problem = combined(seed=1, tasks=(5, 4), antennas=(4, 3), snr_db=snr_db, peak=peak)
    prices, noise = energy_identity(problem, optim.solve(problem, tolerance=1e-12))
    assert prices == pytest.approx(noise, rel=1e-5)


@pytest.mark.parametrize("cross_db", [-20.0, 0.0])
def test_so_does_a_design_under_task_reuse(cross_db):
    problem = reusing(seed=2, tasks=(4, 3), antennas=(4, 3), snr_db=15.0, cross_db=cross_db)
    solution = optim.solve(problem, tolerance=1e-12, max_iterations=2000)
    prices, noise = energy_identity(problem, solution)
    assert prices == pytest.approx(noise, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_is_at_least_as_good_as_every_other_method(seed):
    problem = combined(seed=seed, tasks=(4, 4), antennas=(4, 3), snr_db=15.0)
    best = optim.solve(problem).pi
    for method in ("phase-mm", "alternating", "full-power", "inversion"):
        assert best <= optim.solve(problem, method).pi * (1 + 1e-6)


def test_with_average_above_peak_power_every_receiver_is_a_problem_of_its_own():
    problem = combined(seed=4, tasks=(4, 3), antennas=(4, 3), peak=0.3, snr_db=10.0)
    assert (problem.average_power_w >= problem.peak_power_w).all()
    alone = [optim.solve(stream, "phase-mm", starts=16).mse for stream in problem.streams_at_peak]
    assert optim.solve(problem).pi <= problem.stream_weights @ np.array(alone) * (1 + 1e-4)
    assert optim.solve(problem).pi >= problem.stream_weights @ np.array(alone) * (1 - 1e-2)


def renamed(problem, rng):
    """Devices and tasks in another order."""
    tasks, devices = rng.permutation(len(problem.members)), rng.permutation(problem.num_devices)
    new_name = np.argsort(devices)
    channels = problem.edge_channels
    if problem.reuse:
        channels = [channel[devices] for channel in channels]
    return replace(
        problem,
        base_station_channel=problem.base_station_channel[devices],
        edge_channels=[channels[task] for task in tasks],
        members=[new_name[problem.members[task]] for task in tasks],
        data_sizes=problem.data_sizes[devices],
        average_power_w=problem.average_power_w[devices],
        peak_power_w=problem.peak_power_w[devices],
        noise_power_w=problem.noise_power_w[[0, *(1 + tasks)]],
    )


def turned(problem, rng):
    """Other phases of every device, other antennas at every receiver."""

    def turn(channel):
        phases = np.exp(2j * np.pi * rng.random((len(channel), 1)))
        return phases * channel @ np.linalg.qr(rayleigh(rng, channel.shape[1], channel.shape[1]))[0]

    return replace(
        problem,
        base_station_channel=turn(problem.base_station_channel),
        edge_channels=[turn(channel) for channel in problem.edge_channels],
    )


def quieter(problem, rng):
    """200 dB less path gain, and as much less noise."""
    return replace(
        problem,
        base_station_channel=1e-10 * problem.base_station_channel,
        edge_channels=[1e-10 * channel for channel in problem.edge_channels],
        noise_power_w=1e-20 * problem.noise_power_w,
    )


@pytest.mark.parametrize("change", [renamed, turned, quieter])
@pytest.mark.parametrize("method", ["auto", "phase-mm", "alternating"])
def test_names_order_antennas_phases_and_units_change_nothing(method, change):
    rng = np.random.default_rng(0)
    for seed in range(3) if method == "auto" else (1,):
        problem = combined(seed=5 + seed, tasks=(4, 3, 2), antennas=(4, 3), snr_db=10.0 * seed)
        one, other = optim.solve(problem, method), optim.solve(change(problem, rng), method)
        assert other.pi == pytest.approx(one.pi, rel=1e-9)
        assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-9)


@pytest.mark.parametrize("change", [renamed, turned, quieter])
def test_nor_do_they_under_task_reuse(change):
    problem = reusing(seed=3, tasks=(4, 3), antennas=(4, 3))
    one, other = optim.solve(problem), optim.solve(change(problem, np.random.default_rng(1)))
    assert other.pi == pytest.approx(one.pi, rel=1e-6)
    assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-9)


def test_fewer_devices_than_antennas_have_no_preferred_antennas_either():
    rng = np.random.default_rng(2)
    channel = rayleigh(rng, 8, 4)
    edges = [rayleigh(rng, 4, 3) for _ in range(2)]
    problem = optim.CombinedProblem(
        base_station_channel=channel, edge_channels=edges, members=[range(4), range(4, 8)],
        data_sizes=np.ones(8), rank_shared=3, rank_personal=1, average_power_w=0.1, peak_power_w=0.4,
        noise_power_w=1e-2,
    )  # fmt: skip
    wide = replace(problem, base_station_channel=channel @ np.linalg.qr(rayleigh(rng, 12, 4))[0].T)
    narrow = optim.solve(problem)
    assert optim.solve(wide).pi == pytest.approx(narrow.pi, rel=1e-9)
    assert optim.solve(turned(problem, rng)).pi == pytest.approx(narrow.pi, rel=1e-9)


@pytest.mark.parametrize("starts", [8, 16])
def test_the_default_is_not_behind_phase_mm_where_energy_is_short_from_eight_starts_on(starts):
    for seed, snr_db in ((100, 10.0), (100, 30.0), (102, 20.0)):
        problem = combined(seed=seed, tasks=(5, 5), antennas=(4, 4), snr_db=snr_db)
        reached = optim.solve(problem, "phase-mm", starts=starts).pi
        assert optim.solve(problem, starts=starts).pi <= reached * (1 + 1e-4)


def test_shares_say_the_same_as_ranks_and_one_of_both_is_enough():
    ranks = combined(seed=6, ranks=(6, 2))
    shares = replace(ranks, rank_shared=None, rank_personal=None, shares=(300.0, 100.0))
    assert shares.shares == (0.75, 0.25)
    assert optim.solve(shares).pi == optim.solve(ranks).pi


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rank_shared": None, "rank_personal": None, "shares": None}, "neither shares nor ranks are given"),
        ({"shares": (0.5, 0.5)}, r"shares = \(0.5, 0.5\) disagree with rank_shared = 6"),
        ({"rank_personal": None}, "rank_personal is missing: give both ranks"),
        ({"rank_shared": None, "rank_personal": None, "shares": (-1, 2)}, r"shares\[0\] = -1 is not allowed"),
        ({"rank_shared": None, "rank_personal": None, "shares": (0, 0)}, "both 0: there is nothing"),
        ({"rank_shared": None, "rank_personal": None, "shares": 0.5}, "give the pair"),
        ({"misalignment_weight": 0.0}, "misalignment_weight = 0 is not allowed"),
        ({"task_access": "shared"}, "choose 'orthogonal' or 'reuse'"),
        ({"task_access": "reuse"}, r"edge_channels\[0\] has 3 rows but there are 5 devices"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(combined(), **fields)


def test_one_block_is_the_problem_itself():
    problem = combined(seed=7, snr_db=12.0)
    alone, block = optim.solve(problem), optim.solve(optim.MultiBlockProblem((problem,)))
    assert (block.pi, block.lower_bound) == (alone.pi, alone.lower_bound)
    block.verify(optim.MultiBlockProblem((problem,)))


@pytest.mark.parametrize("method", ["auto", "phase-mm", "sca", "sdr"])
def test_equal_blocks_gain_nothing_and_different_blocks_share_energy(method):
    block = combined(seed=8, tasks=(2, 2), antennas=(2, 2), snr_db=10.0)
    options = {"starts": 2} if method in ("sca", "sdr") else {}
    single = optim.solve(block, method, **options).pi
    if method == "auto":
        equal = optim.MultiBlockProblem((block, block, block), (1.0, 2.0, 3.0))
        assert optim.solve(equal).pi == pytest.approx(single, rel=1e-4)
    other = faded(block, 9)
    problem = optim.MultiBlockProblem((block, other))
    together = optim.solve(problem, method, **options)
    together.verify(problem)
    apart = (single + optim.solve(other, method, **options).pi) / 2
    assert together.pi < apart
    assert together.lower_bound <= together.pi
    energy = phase_shares(problem) @ phase_power_w(problem, together.design)
    assert (energy > 0).all()


def test_energy_goes_where_it_helps_over_blocks():
    block = combined(seed=10, tasks=(2, 1), antennas=(2, 2), snr_db=0.0, peak=10.0)
    lost = replace(block, base_station_channel=0 * block.base_station_channel,
                   edge_channels=[0 * channel for channel in block.edge_channels])  # fmt: skip
    problem = optim.MultiBlockProblem((block, lost))
    richer = replace(block, average_power_w=2 * block.average_power_w)
    silent = optim.evaluate(lost, optim.solve(lost).design).pi
    assert optim.solve(problem).pi == pytest.approx((optim.solve(richer).pi + silent) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: optim.MultiBlockProblem(()), "blocks is empty"),
        (lambda: optim.MultiBlockProblem((combined(), 3)), r"blocks\[1\] is a int"),
        (lambda: optim.MultiBlockProblem((combined(), combined(seed=1))), r"blocks\[1\].members differs"),
        (lambda: optim.MultiBlockProblem((combined(),), (1, 2)), "give one length per block"),
        (lambda: optim.MultiBlockProblem((combined(),), (0,)), r"block_shares\[0\] = 0"),
    ],
)
def test_impossible_blocks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_reuse_without_cross_channels_is_orthogonal_access():
    problem = reusing(seed=11, snr_db=15.0, cross_db=-np.inf)
    own = [problem.own_channel(stream) for stream in (1, 2)]
    orthogonal = replace(problem, task_access="orthogonal", edge_channels=own)
    one, other = optim.solve(problem), optim.solve(orthogonal)
    assert one.certified and other.certified
    assert one.pi == pytest.approx(other.pi, rel=1e-9)
    assert one.lower_bound == pytest.approx(other.lower_bound, rel=1e-9)


@pytest.mark.parametrize("cross_db", [-15.0, 0.0])
def test_interference_costs_and_its_design_says_that_it_is_not_certified(cross_db):
    problem = reusing(seed=12, snr_db=15.0, cross_db=cross_db)
    own = [problem.own_channel(stream) for stream in (1, 2)]
    orthogonal = optim.solve(replace(problem, task_access="orthogonal", edge_channels=own))
    solution = optim.solve(problem)
    solution.verify(problem)
    assert solution.pi > orthogonal.pi
    assert solution.lower_bound == pytest.approx(orthogonal.lower_bound, rel=2e-3)
    assert not solution.certified and solution.certificate.startswith("Not certified")
    assert orthogonal.certified and orthogonal.certificate.startswith("Certified")
    # A design that does not know of the interference is worse.
    assert solution.pi < optim.evaluate(problem, orthogonal.design).pi
    assert (np.diff(solution.history) <= 0).all()


def test_the_interference_formula_is_what_symbols_experience():
    problem = reusing(seed=13, cross_db=-3.0)
    design, rng = optim.solve(problem).design, np.random.default_rng(14)
    symbols = rayleigh(rng, problem.num_devices, 200_000)
    sent = np.zeros(problem.num_devices, dtype=complex)
    for members, part in zip(problem.members, design.edge_servers, strict=True):
        sent[members] = part.transmit_scalars
    predicted = optim.evaluate(problem, design).stream_mse
    for task, members in enumerate(problem.members):
        beam = design.edge_servers[task].receive_beamformer
        noise = np.sqrt(problem.noise_power_w[1 + task]) * rayleigh(rng, len(beam), symbols.shape[1])
        received = beam.conj() @ ((problem.edge_channels[task] * sent[:, None]).T @ symbols + noise)
        error = np.abs(received - problem.targets[1 + task] @ symbols[members]) ** 2
        assert error.mean() == pytest.approx(predicted[1 + task], rel=0.03)


@pytest.mark.parametrize("method", ["phase-mm", "alternating", "sca", "sdr", "full-power", "inversion"])
def test_methods_that_ignore_interference_refuse_it(method):
    with pytest.raises(ValueError, match="'reuse': .* would ignore the interference .* use method 'auto'"):
        optim.solve(reusing(), method)


@pytest.mark.parametrize("method", ["full-power", "inversion"])
def test_methods_without_coupling_design_block_by_block(method):
    blocks = (combined(seed=15), faded(combined(seed=15), 16))
    problem = optim.MultiBlockProblem(blocks)
    solution = optim.solve(problem, method)
    solution.verify(problem)
    assert solution.pi == pytest.approx(np.mean([optim.solve(block, method).pi for block in blocks]))
