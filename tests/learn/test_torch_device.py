"""A whole run on another device: the same numbers, and nothing but a few of them and draws to and fro."""

import pytest
import torch
from pretend_device import DEVICE, pretending
from transformer_builders import SCALE, random_factors, random_texts, tiny_model

from airsim import Scenario, build, rounds, run, store
from airsim.errors import ScenarioError
from airsim.learn.batches import PaddedBatch, pad

DEVICES, BATCH, STEPS = 4, 4, 2
# Floats that may be copied at once: a weight per sample, an angle per pair; a factor has more entries.
FEW = DEVICES * BATCH * STEPS
NOISE = ("transmission.py", "orthogonal.py")  # drawn on the CPU, the same on any device
FRESH = ("learn/operators/fresh_basis.py", "learn/operators/factor_stacking.py")  # so are new factors

ONE_TASK = {
    "learning__data__tasks": [{}],
    "network__devices__per_edge_server": DEVICES,
    "learning__adapters": {"shared_rank": 3, "personal_rank": 0},
    "learning__batch": BATCH,
    "learning__learning_rate": 0.05,
    "learning__training": {"steps": STEPS, "optimiser": "momentum", "keep_state": True},
    "learning__data__training_images": 60,
}
TWO_TASKS = {
    "learning__data__tasks": [{}, {"swap": [1, 7]}],
    "network__devices__per_edge_server": DEVICES // 2,
    "network__base_station__antennas": 2,
    "network__edge_servers__antennas": 2,
    "learning__batch": BATCH,
    "learning__data__training_images": 60,
}
CNN = {"learning__model": {"kind": "cnn", "channels": [4], "hidden": [8], "base": {"kind": "random"}}}
MIXED = {"learning__adapters": {"shared_rank": 3, "personal_rank": 0, "device_ranks": [3, 1, 2]}}
SGD = {"learning__training": {"steps": STEPS, "optimiser": "sgd"}}
ADAMW = {"learning__training": {"steps": STEPS, "optimiser": "adamw"}}
ALL = ["global", "cross-task", "devices"]

CASES = {
    "gradients": TWO_TASKS | {"record__also_evaluate": ALL},
    "gradients of a cnn": TWO_TASKS | CNN | {"learning__server": {"optimiser": "adam"}},
    "antennas": TWO_TASKS | {"uplink__air": "antenna", "uplink__normalisation": "rms"},
    "factors of a cnn": ONE_TASK | CNN | {"aggregation__method": "ps"},
    "mixed ranks": ONE_TASK | MIXED | ADAMW | {"aggregation__method": "hetlora"},
    "dense products": ONE_TASK | {"aggregation__method": "flexlora", "uplink__nonlinear": "dense"},
    "one by one": ONE_TASK | {"aggregation__method": "flora", "uplink__nonlinear": "orthogonal"},
    "clusters": ONE_TASK | {"aggregation__method": "fedinc", "uplink__nonlinear": "orthogonal"},
    "fresh bases": ONE_TASK | {"aggregation__method": "colr"},
    "models": ONE_TASK | ADAMW | {"aggregation__method": "moon"},
    "control variates": ONE_TASK | SGD | {"aggregation__method": "scaffold"},
}


@pytest.fixture
def small(scenario):
    """A builder of tiny scenarios, whose factors are larger than all that may be copied."""
    return lambda **changes: scenario(**{"learning__data__test_images": 30} | changes)


def played(scenario, copies=()):
    """The metrics of a round, what was copied in it, and the evaluation."""
    engine = build.build_simulation(scenario).engine
    before = len(copies)
    engine.begin(0, range(scenario.num_devices))
    engine.finish(0)
    return dict(engine.metrics), copies[before:], engine.evaluate()


def moved(scenario, monkeypatch):
    """The same on the pretended device."""
    monkeypatch.setattr(build, "build_torch_device", lambda scenario: DEVICE)
    with pretending() as copies:
        return played(scenario, copies)


def require_little_traffic(copies):
    """Numbers per device come, designs and indices go; payloads and gradients do neither."""
    for copy in copies:
        if copy.way == "to" and copy.dtype.is_floating_point | copy.dtype.is_complex:
            drawn = copy.where.startswith(NOISE + FRESH)
            assert drawn or copy.entries <= FEW, copy
        elif copy.way == "from":
            assert copy.entries <= FEW, copy


@pytest.mark.parametrize("case", CASES)
def test_a_round_elsewhere_has_the_same_bits_and_copies_no_payload(small, case, monkeypatch):
    metrics, _, accuracy = played(small(**CASES[case]))
    found, copies, evaluated = moved(small(**CASES[case]), monkeypatch)
    assert found == metrics
    assert evaluated == accuracy
    assert any(copy.way == "to" and copy.where.startswith(NOISE) for copy in copies)
    require_little_traffic(copies)


def test_sums_of_a_large_cohort_are_passed_without_rows_on_another_device(small, monkeypatch):
    monkeypatch.setattr(rounds, "PAYLOAD_BYTES_SUMMED", 0)
    metrics, _, accuracy = played(small(**TWO_TASKS))
    found, copies, evaluated = moved(small(**TWO_TASKS), monkeypatch)
    assert found == metrics
    assert evaluated == accuracy
    require_little_traffic(copies)


def test_a_run_elsewhere_keeps_the_same_adapters(small, tmp_path, monkeypatch):
    scenario = small(**TWO_TASKS, stop__rounds=1)
    run(scenario, out=tmp_path / "cpu")
    monkeypatch.setattr(build, "build_torch_device", lambda scenario: DEVICE)
    with pretending():
        run(scenario, out=tmp_path / "elsewhere")
    kept = [(tmp_path / folder / store.ADAPTERS).read_bytes() for folder in ("cpu", "elsewhere")]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("kind", ["bert", "llama-lm"])
def test_gradients_of_a_transformer_stay_on_its_device(kind):
    def gradients(model, layers, batch):
        return model.for_task(0).device_gradients(layers, SCALE, batch)

    model, texts = tiny_model(kind), [random_texts(2, num_classes=2, seed=seed) for seed in range(3)]
    layers, batch = random_factors(model), pad(texts)
    wanted = gradients(model, layers, batch)
    with pretending() as copies:
        there = PaddedBatch(*(x.to(DEVICE) for x in (batch.x, batch.y, batch.weights)))
        factors = {name: own.to(DEVICE) for name, own in layers.items()}
        other = model.to(DEVICE)
        copies.clear()
        found = gradients(other, factors, there)
        # Single numbers: the length of the longest text, and what the network itself asks of its mask.
        assert {copy.way for copy in copies} == {"read"}
        # Torch has another kernel for attention there.
        torch.testing.assert_close(found.losses.cpu(), wanted.losses, rtol=1e-10, atol=1e-12)
        for name, own in wanted.layers.items():
            moved_own = found.layers[name]
            torch.testing.assert_close(moved_own.a.cpu(), own.a, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(moved_own.b.cpu(), own.b, rtol=1e-10, atol=1e-12)


def test_the_pretended_device_refuses_mixed_operands_and_writes_down_what_is_read():
    with pretending() as copies:
        here, there = torch.ones(3), torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="tensors on meta and cpu"):
            here + there
        with pytest.raises(RuntimeError, match="tensors on meta and cpu"):
            torch.cat((there, here))
        assert float((2 * there).sum()) == 6.0
        assert there.cpu().tolist() == [1.0, 1.0, 1.0]
        assert there[there > 0].shape == (3,)
    assert [copy.way for copy in copies] == ["to", "read", "from", "read"]


def test_a_device_that_is_not_here_is_refused_with_its_line_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_data", lambda *_: pytest.fail("data were built"))
    name = "xpu:7" if not (hasattr(torch, "xpu") and torch.xpu.is_available()) else "cuda:99"
    path = tmp_path / "study.yaml"
    lines = ("schema: airsim/1", "name: study", "extends: quickstart", "learning:", f"  torch_device: {name}")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ScenarioError) as refused:
        run(Scenario.load(path))
    where, _, said = str(refused.value).partition(": ")
    assert where == f"{path}:5"
    assert said.startswith(f"learning.torch_device: torch {torch.__version__} cannot compute on '{name}'")
    assert "write cpu, or run it where this device is" in said
    with pytest.raises(ScenarioError, match=f"^-s learning.torch_device={name}: .*cannot compute"):
        run(Scenario.load("quickstart", {"learning.torch_device": name}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here")
@pytest.mark.parametrize("method", ["airpfed-lora", "ps"])
def test_a_gpu_gives_the_metrics_of_the_cpu_within_single_precision(small, method):
    changes = TWO_TASKS if method == "airpfed-lora" else ONE_TASK | {"aggregation__method": method}
    on_cpu, on_gpu = (run(small(**changes, learning__torch_device=name)).metrics for name in ("cpu", "cuda"))
    for key in ("loss", "pi_predicted", "pi_realised", "reference_std", "relative_error_shared"):
        assert on_gpu[key] == pytest.approx(on_cpu[key], rel=1e-3), key
    assert on_gpu["accuracy"][-1] == pytest.approx(on_cpu["accuracy"][-1], abs=0.02)
