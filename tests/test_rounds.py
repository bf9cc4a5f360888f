"""One round against its definition: what arrives, what is logged, however it is computed."""

import json
import threading

import numpy as np
import pytest
import torch

from airsim import rounds, run, sweep
from airsim.build import build_simulation
from airsim.errors import DivergenceError
from airsim.learn.adapters import flatten
from airsim.learn.models.mlp import FrozenMLP


def ideal_aggregates(engine, round_index=0):
    """Sums by their definition: D_k / D over all devices, D_k / D_n over those of task n."""
    sizes = torch.tensor(engine.federation.data_sizes)
    chunks = list(engine.learner.gradients(engine.adapters, round_index, range(len(sizes))))
    shared = torch.cat([chunk.shared for chunk in chunks]).double()
    personal = torch.cat([chunk.personal for chunk in chunks]).double()
    totals = [(sizes / sizes.sum()) @ shared]
    for members in engine.federation.members:
        own = sizes[list(members)]
        totals.append((own / own.sum()) @ personal[list(members)])
    return totals


def one_round(scenario):
    """Engine, ideal aggregates and received ones."""
    wanted = ideal_aggregates(build_simulation(scenario).engine)
    engine, received = played(scenario)
    return engine, wanted, received


def played(scenario):
    """The engine after one round, and what its adapters say that it received."""
    engine = build_simulation(scenario).engine
    before = engine.adapters
    engine.begin(0, range(len(engine.federation.data_sizes)))
    engine.finish(0)
    step = engine.learner.operator.learning_rate
    received = [(flatten(before.shared) - flatten(engine.adapters.shared)) / step]
    received += list((flatten(before.personal) - flatten(engine.adapters.personal)) / step)
    return engine, [row.double() for row in received]


@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
def test_error_free_links_deliver_the_weighted_mean_gradients(scenario, normalisation):
    _, wanted, received = one_round(scenario(uplink__mode="error-free", uplink__normalisation=normalisation))
    for want, have in zip(wanted, received, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
@pytest.mark.parametrize("air", ["effective", "antenna"])
def test_the_logged_error_is_the_error_of_the_adapters(scenario, normalisation, air):
    changes = {"uplink__normalisation": normalisation, "uplink__air": air, "channel__snr": "0 dB"}
    engine, wanted, received = one_round(scenario(**changes))
    error = [float((have - want).square().sum()) for want, have in zip(wanted, received, strict=True)]
    signal = [float(want.square().sum()) for want in wanted]
    scale = engine.metrics["reference_std"]
    realised = [e / len(w) / scale**2 for e, w in zip(error, wanted, strict=True)]
    np.testing.assert_allclose(engine.metrics["mse_realised"], realised, rtol=1e-3)
    assert engine.metrics["relative_error_shared"] == pytest.approx(error[0] / signal[0], rel=1e-3)
    weights = engine.federation.stream_weights
    assert engine.metrics["pi_realised"] == pytest.approx(float(weights @ np.array(realised)), rel=1e-3)


@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
def test_antenna_level_and_scalar_gains_give_the_same_noise_free_round(scenario, normalisation):
    changes = {"uplink__normalisation": normalisation, "channel__snr": "3 dB"}
    logged = [one_round(scenario(uplink__air=air, **changes))[0].metrics for air in ("antenna", "effective")]
    np.testing.assert_allclose(logged[0]["mse_correlated"], logged[1]["mse_correlated"], rtol=1e-4)
    np.testing.assert_allclose(logged[0]["mse_predicted"], logged[1]["mse_predicted"], rtol=1e-12)


def test_realised_errors_agree_with_the_correlated_prediction_on_every_stream(scenario, tmp_path):
    """200 channel draws at three SNRs: realised and predicted errors within 2 %, by measured correlation."""
    swept = scenario(
        stop__rounds=200,
        learning__model__hidden=[64, 64],
        record__evaluate_every=200,
        allocation__starts=1,
        sweep={"grid": {"channel.snr": ["-20 dB", "0 dB", "20 dB"]}},
    )
    for outcome in sweep(swept, out=tmp_path / "snrs", workers=2).outcomes:
        lines = (outcome.folder / "metrics.jsonl").read_text().splitlines()
        realised, predicted = (
            np.sum([json.loads(line)[name] for line in lines], axis=0)
            for name in ("mse_realised", "mse_correlated")
        )
        np.testing.assert_allclose(realised / predicted, 1.0, atol=0.02)


def test_a_cohort_passed_twice_gives_the_bits_of_kept_payloads(scenario, monkeypatch):
    config = scenario(learning__batch=4)
    monkeypatch.setattr("airsim.learn.cohort.DEVICES_PER_CHUNK", 3)
    kept = run(config).metrics
    monkeypatch.setattr(rounds, "PAYLOAD_BYTES_KEPT", 0)
    assert same(run(config).metrics, kept)


@pytest.mark.parametrize("normalisation", ["per-device", "common", "rms"])
@pytest.mark.parametrize("mode", ["aircomp", "error-free"])
def test_a_cohort_of_which_only_sums_exist_makes_the_same_round(scenario, monkeypatch, mode, normalisation):
    changes = {"uplink__mode": mode, "uplink__normalisation": normalisation, "channel__snr": "5 dB"}
    config = scenario(learning__batch=4, **changes)
    kept, _, wanted = one_round(config)
    monkeypatch.setattr(rounds, "PAYLOAD_BYTES_SUMMED", 0)
    monkeypatch.setattr("airsim.learn.cohort.Cohort.gradient_chunks", lambda *_: pytest.fail("rows"))
    monkeypatch.setattr("airsim.learn.streaming.BYTES_PER_CHUNK", 1)  # device by device
    streamed, received = played(config)
    for one, other in zip(wanted, received, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    for name in ("loss", "pi_predicted", "mse_correlated", "mse_realised", "relative_error_shared"):
        np.testing.assert_allclose(streamed.metrics[name], kept.metrics[name], rtol=1e-3, atol=1e-9)


def test_receivers_that_need_every_row_get_them_also_from_a_streamed_cohort(scenario, monkeypatch):
    config = scenario(learning__batch=4, uplink__air="antenna")
    kept, _, _ = one_round(config)
    monkeypatch.setattr(rounds, "PAYLOAD_BYTES_SUMMED", 0)
    streamed, _ = played(config)
    # A beam's phase is free and turns with the moments' rounding, and the antennas' noise with it.
    for name in ("mse_predicted", "mse_correlated"):
        np.testing.assert_allclose(streamed.metrics[name], kept.metrics[name], rtol=1e-3)


@pytest.mark.parametrize("summed_from", [0, 2**30], ids=["sums alone", "payloads kept"])
def test_threads_share_the_devices_and_change_no_bit(scenario, monkeypatch, summed_from):
    monkeypatch.setattr(rounds, "PAYLOAD_BYTES_SUMMED", summed_from)
    monkeypatch.setattr("airsim.learn.cohort.DEVICES_PER_CHUNK", 2)
    monkeypatch.setattr("airsim.learn.streaming.BYTES_PER_CHUNK", 1)
    config = scenario(learning__batch=4, stop__rounds=2, record__evaluate_every=2)
    alone, seen = run(config), set()
    backpropagate = FrozenMLP.backpropagate

    def watched(*arguments):
        seen.add(threading.get_ident())
        return backpropagate(*arguments)

    monkeypatch.setattr(FrozenMLP, "backpropagate", watched)
    assert same(run(config, threads=3).metrics, alone.metrics)
    assert len(seen) > 1


def test_no_thread_at_all_is_refused(scenario):
    with pytest.raises(ValueError, match="threads = 0: give at least 1"):
        run(scenario(), threads=0)


def same(one, other):
    return repr(one) == repr(other)


def test_chunks_change_only_the_rounding(scenario, monkeypatch):
    whole = run(scenario()).metrics
    monkeypatch.setattr("airsim.learn.cohort.DEVICES_PER_CHUNK", 3)
    parts = run(scenario()).metrics
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["pi_realised"], whole["pi_realised"], rtol=1e-3)


def test_without_personal_rank_only_the_base_station_is_heard(scenario):
    engine, wanted, _ = one_round(scenario(learning__adapters__personal_rank=0))
    assert engine.metrics["mse_realised"][1:] == [0.0] * 4
    assert engine.metrics["pi_realised"] == engine.metrics["mse_realised"][0] > 0
    assert engine.metrics["relative_error_personal"] == 0.0
    assert wanted[1].numel() == 0


def test_without_shared_rank_the_tasks_are_isolated_cells(scenario):
    engine, _, _ = one_round(scenario(learning__adapters__shared_rank=0))
    assert engine.metrics["mse_realised"][0] == 0.0
    weights = engine.federation.stream_weights
    assert weights[0] == 0 and weights[1:].sum() == pytest.approx(1)


def test_a_large_misalignment_weight_raises_pi_and_removes_bias(scenario):
    plain = one_round(scenario(channel__snr="-10 dB"))[0].metrics
    unbiased = one_round(scenario(channel__snr="-10 dB", allocation__misalignment_weight=1000))[0].metrics
    assert unbiased["pi_predicted"] > plain["pi_predicted"]
    # Without misalignment nothing depends on the symbols' correlation.
    assert unbiased["pi_correlated"] == pytest.approx(unbiased["pi_predicted"], rel=0.02)


def test_diverged_training_is_an_error_and_never_an_accuracy(scenario):
    with pytest.raises(DivergenceError, match=r"learning\.learning_rate"):
        run(scenario(learning__learning_rate=1e6, stop__rounds=30))


def test_transmit_energy_respects_the_average_power(scenario):
    config = scenario(channel__snr="-10 dB")
    simulation = build_simulation(config)
    engine = simulation.engine
    airtime = engine.begin(0, range(8))
    federation = engine.federation
    own_symbols = federation.symbols_shared + federation.symbols_personal
    budget_j = config.network.devices.average_power * own_symbols / config.channel.bandwidth
    spent = np.add(airtime.shared_energy_j, airtime.personal_energy_j)
    assert (spent <= budget_j * (1 + 1e-2)).all()  # symbols are rounded up to whole ones
    assert spent.max() > 0.9 * budget_j


def test_finishing_a_round_that_has_not_begun_is_refused(scenario):
    engine = build_simulation(scenario()).engine
    with pytest.raises(RuntimeError, match="finished before it has begun"):
        engine.finish(0)


def test_a_different_seed_changes_everything_and_the_same_seed_nothing(scenario):
    one, other, again = (run(scenario(seed=seed)).metrics for seed in (1, 2, 1))
    assert same(one, again)
    assert one["pi_realised"] != other["pi_realised"] and one["loss"] != other["loss"]


def test_two_methods_on_one_seed_meet_the_same_data_and_start(scenario):
    first = [
        run(scenario(stop__rounds=1, allocation__method=method)).metrics["loss"]
        for method in ("auto", "full-power")
    ]
    assert first[0] == first[1]


def test_a_round_of_the_air_costs_what_the_clock_says(scenario):
    config = scenario()
    metrics = run(config).metrics
    assert metrics["channel_uses"] == [metrics["channel_uses"][0] * n for n in (1, 2, 3)]
    assert build_simulation(config).profile.own_work(0, 0).statistics_s > 0
    assert np.all(np.diff(metrics["sim_time_s"]) > 0) and np.all(np.diff(metrics["energy_j"]) > 0)
