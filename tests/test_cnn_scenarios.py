"""Scenarios of a small convolutional network: sizes, adapters on chosen layers, pretraining, rounds."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, linear

from airsim import Scenario
from airsim.build import build_simulation, fingerprint
from airsim.builders.costs import adapter_sizes
from airsim.errors import ScenarioError
from airsim.learn.data.sources import load_digits
from airsim.learn.data.tasks import make_split
from airsim.learn.models.convolution import ImageShape, Window
from airsim.learn.models.plans import CnnPlan, MlpPlan
from airsim.learn.pretraining import PretrainingSpec, load_base, pretrain_base, random_base, save_base
from airsim.randomness import RandomStreams

PLAN = CnnPlan(ImageShape(1, 8, 8), Window(3, 2, 1), (4, 6), (5,), 10)
CNN = {"kind": "cnn", "channels": [4, 6], "hidden": [5], "base": {"kind": "random"}}
ENDS = {"conv0": 9 + 4, "conv1": 36 + 6, "linear0": 24 + 5, "linear1": 5 + 10}
MERGING = ("flora", "sp-base-dropping", "fedex-lora")


def test_a_plan_gives_the_widths_of_patches_maps_and_linear_layers():
    ends = {name: sum(shape) for name, shape in PLAN.shapes.items()}
    assert ends == ENDS
    assert random_base(PLAN, RandomStreams(0)).layer_shapes == PLAN.shapes


@pytest.mark.parametrize("plan", [PLAN, MlpPlan((64, 7, 5))], ids=["cnn", "mlp"])
def test_with_its_own_parameters_a_model_computes_what_it_always_does(plan):
    model, x = random_base(plan, RandomStreams(0)), torch.rand(3, 64)
    features, logits = model.forward_with(model.parameters, x)
    torch.testing.assert_close(logits, model.forward(x, {}, 1.0))
    stacked = {name: tensor.expand(2, *tensor.shape) for name, tensor in model.parameters.items()}
    both = model.forward_with(stacked, x.expand(2, 3, 64))
    torch.testing.assert_close(both[1][1], logits)
    assert features.shape[1] == list(plan.shapes.values())[-1].inputs
    changed = model.with_base_weights({name: 2 * w for name, w in model.base_weights.items()})
    assert all(torch.equal(w, 2 * model.base_weights[name]) for name, w in changed.base_weights.items())


def test_operations_are_counted_down_to_the_lowest_adapter_only():
    upper = random_base(CnnPlan(**{**PLAN.__dict__, "adapted": "linear"}), RandomStreams(0))
    assert list(upper.layer_shapes) == ["linear0", "linear1"]
    base = {"conv0": 16 * 9 * 4, "conv1": 4 * 36 * 6, "linear0": 24 * 5, "linear1": 5 * 10}
    forward, backward = 2 * sum(base.values()), 2 * base["linear1"]
    adapters = 6 * 3 * (ENDS["linear0"] + ENDS["linear1"]) - 2 * 3 * 24
    assert upper.flops_per_sample(3) == forward + backward + adapters
    assert upper.full_flops_per_sample() == 6 * sum(base.values()) - 2 * base["conv0"]


def test_a_pretrained_cnn_reads_digits_it_has_not_seen_and_comes_back_from_its_file(tmp_path):
    plan = CnnPlan(PLAN.image, PLAN.window, (8, 16), (32,), 10)
    digits, spec = load_digits(), PretrainingSpec(steps=120)
    public, held_out = np.split(np.random.default_rng(0).permutation(len(digits.labels)), [300])
    split = make_split(digits.images[public], digits.labels[public], "upright")
    base = pretrain_base(split, plan, spec, RandomStreams(0), tmp_path)
    test = make_split(digits.images[held_out], digits.labels[held_out], "upright")
    assert base.scores(test.x, test.y, {}, 1.0).right.mean() > 0.8
    save_base(base, tmp_path / "base.safetensors")
    for again in (
        pretrain_base(split, plan, spec, RandomStreams(0), tmp_path),
        load_base(tmp_path / "base.safetensors", plan),
    ):
        assert all(torch.equal(x, again.parameters[name]) for name, x in base.parameters.items())


def test_a_built_cnn_is_torchs_own_convolutions_and_linear_layers():
    model, x = random_base(PLAN, RandomStreams(3)), torch.rand(5, 64)
    conv0, conv1, linear0, linear1 = model.weights
    maps = conv2d(x.reshape(5, 1, 8, 8), conv0.reshape(4, 1, 3, 3), stride=2, padding=1).relu()
    maps = conv2d(maps, conv1.reshape(6, 4, 3, 3), stride=2, padding=1).relu()
    wanted = linear(linear(maps.flatten(1), linear0).relu(), linear1)
    torch.testing.assert_close(model.forward(x, {}, 1.0), wanted)


@pytest.mark.parametrize(
    "layers, names", [("conv|linear", list(ENDS)), ("conv1|linear0", ["conv1", "linear0"])]
)
def test_payloads_carry_the_adapters_of_the_chosen_layers(scenario, layers, names):
    built = scenario(learning__model={**CNN, "adapted_layers": layers})
    ends = sum(ENDS[name] for name in names)
    assert adapter_sizes(built) == (6 * ends, 2 * ends)
    engine = build_simulation(built).engine
    engine.begin(0, range(8))
    assert engine.channel_uses == 3 * ends + 4 * ends
    assert list(engine.adapters.shared) == names


@pytest.mark.parametrize(
    "method", ["airpfed-lora", "fedit", "flora", "sp-base-dropping", "fedex-lora", "moon"]
)
def test_rounds_of_a_cnn_move_what_the_method_moves_over_the_air(scenario, method):
    changes = {"learning__adapters__personal_rank": 0, "learning__training__steps": 2, "learning__batch": 8}
    if method == "airpfed-lora":
        changes = {}
    built = scenario(
        aggregation__method=method,
        uplink__nonlinear="orthogonal",
        learning__model={**CNN, "adapted_layers": "conv1|linear0"},
        learning__learning_rate=0.02,
        **changes,
    )
    engine = build_simulation(built).engine
    before = engine.named_tensors()
    for index in range(2):
        engine.begin(index, range(8))
        engine.finish(index)
    after, metrics = engine.named_tensors(), engine.metrics | engine.evaluate()
    assert all(np.isfinite(metrics[name]) for name in ("loss", "accuracy", "pi_realised", "test_loss"))
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())
    merged = {name for name in after if name.startswith("base.")}
    wanted = (
        {"base.conv1", "base.linear0"} if method in ("flora", "sp-base-dropping", "fedex-lora") else set()
    )
    assert merged == wanted


def test_layers_without_an_adapter_keep_their_weights_where_a_method_drops_the_base(scenario):
    built = scenario(
        aggregation__method="sp-base-dropping",
        uplink__mode="error-free",
        learning__adapters__personal_rank=0,
        learning__model={**CNN, "adapted_layers": "linear0"},
    )
    engine = build_simulation(built).engine
    first = engine.state.model
    engine.begin(0, range(8))
    engine.finish(0)
    for name, stage in engine.state.model.stages.items():
        wanted = 0 * stage.weight if name == "linear0" else first.stages[name].weight
        assert torch.equal(stage.weight, wanted)


def test_the_adapted_layers_are_part_of_a_runs_name(scenario):
    adapted = ({**CNN, "adapted_layers": layers} for layers in ("conv", "linear"))
    one, other = (fingerprint(scenario(learning__model=model)) for model in adapted)
    assert one != other


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kernel": 11}, r"learning\.model\.kernel: kernel 11 does not fit on the 8 x 8 map that conv0"),
        ({"kernel": 5, "padding": 0}, r"kernel 5 does not fit on the 2 x 2 map that conv1"),
        ({"adapted_layers": "conv7"}, r"layers are conv0, conv1, linear0, linear1"),
        ({"adapted_layers": "("}, "no regular expression"),
        ({"padding": 10**12}, r"(?s)model\.padding: padding 1000000000000 gives .* set padding to at most 2"),
        ({"channels": []}, "the list is empty"),
    ],
)
def test_what_does_not_fit_an_image_is_refused_with_the_way_out(changes, message):
    with pytest.raises(ScenarioError, match=message):
        Scenario.load("cnn-digits", {f"learning.model.{key}": value for key, value in changes.items()})


def test_texts_have_no_convolutions():
    with pytest.raises(ScenarioError, match=r"kind cnn cannot read data of kind text"):
        Scenario.load("airpfed-text", {"learning.model": {"kind": "cnn"}})
