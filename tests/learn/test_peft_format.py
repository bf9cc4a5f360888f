import json

import peft
import pytest
import torch
import transformers
from transformer_builders import SCALE, random_factors, random_texts, tiny_model, tiny_network

from airsim.errors import DataError
from airsim.learn.adapters import LoRAFactors
from airsim.learn.models.heads import HEAD, NextToken
from airsim.learn.models.pretrained import load_network
from airsim.learn.models.transformer import adapt
from airsim.learn.peft_format import PeftAdapter, export_adapter, import_adapter, merged_network

KINDS = {
    "bert": r"layer\.1.*(query|value)",
    "llama": r"layers\.1\.",
    "gpt2": "c_attn|c_fc",
    "llama-lm": "[qv]_proj",
}


def case(kind):
    """A model, an update with another rank in one layer, and texts."""
    model = tiny_model(kind, KINDS[kind], dtype=torch.float32)
    layers = random_factors(model, rank=3, dtype=torch.float32)
    first = next(iter(layers))
    layers[first] = layers[first].split(2)[0]
    return (model if kind.endswith("-lm") else model.for_task(1)), layers, random_texts(6)


def logits_of(network, model, split):
    """What a plain network answers, read as the model reads it."""
    mask = split.x >= 0
    with torch.no_grad():
        output = network(input_ids=split.x.clamp(min=0), attention_mask=mask.long())
    return model.objective.logits(output, mask, None).squeeze(0)


@pytest.mark.parametrize("scale", [SCALE, 2.0, 1 / 3, 0.1])
def test_an_exported_adapter_comes_back_bit_by_bit(tmp_path, scale):
    _, layers, _ = case("bert")
    layers[HEAD] = LoRAFactors(torch.randn(4, 33), torch.zeros(0, 4))
    export_adapter(PeftAdapter(layers, scale, "some/encoder"), tmp_path)
    back = import_adapter(tmp_path)
    assert (back.scale, back.base_name) == (scale, "some/encoder")
    assert set(back.layers) == set(layers)
    for name, factors in layers.items():
        assert torch.equal(back.layers[name].a, factors.a)
        assert torch.equal(back.layers[name].b, factors.b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_gives_the_same_logits_in_plain_transformers(tmp_path, kind):
    model, layers, split = case(kind)
    merged_network(model, layers, SCALE).save_pretrained(tmp_path)
    loaded = load_network(str(tmp_path), model.objective)
    assert not any("airsim" in type(module).__module__ for module in loaded.modules())
    expected = model.forward(split.x, layers, SCALE).detach()
    torch.testing.assert_close(logits_of(loaded, model, split), expected, rtol=1e-5, atol=1e-5)
    assert (model.forward(split.x, {}, SCALE) - expected).abs()[expected.isfinite()].max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_new_base_weights_are_part_of_a_merged_model(tmp_path, kind):
    model, layers, split = case(kind)
    before = model.forward(split.x, layers, SCALE).detach()
    rng = torch.Generator().manual_seed(3)
    moved = {
        name: weight + torch.randn(weight.shape, generator=rng) / 10
        for name, weight in list(model.base_weights.items())[1:]
    }
    first = next(iter(model.base_weights))
    changed = model.with_base_weights(moved | {first: torch.zeros_like(model.base_weights[first])})
    merged_network(changed, layers, SCALE).save_pretrained(tmp_path)
    loaded = load_network(str(tmp_path), changed.objective)
    expected = changed.forward(split.x, layers, SCALE).detach()
    torch.testing.assert_close(logits_of(loaded, changed, split), expected, rtol=1e-5, atol=1e-5)
    assert (before - expected).abs()[expected.isfinite()].max() > 1e-3


def test_what_was_added_to_a_bfloat16_base_is_merged_without_rounding():
    network = tiny_network("bert", dtype=torch.float32)
    model = adapt(network, "query", NextToken(), 9, torch.bfloat16)
    added = {name: weight + 1e-5 for name, weight in model.base_weights.items()}
    layers = random_factors(model, dtype=torch.float32)
    plain = dict(merged_network(model.with_base_weights(added), layers, SCALE).named_modules())
    for name, factors in layers.items():
        assert torch.equal(plain[name].weight, added[name] + SCALE * (factors.b @ factors.a))


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_an_exported_folder_and_gives_the_same_logits(tmp_path, kind):
    model, layers, split = case(kind)
    export_adapter(PeftAdapter(layers, SCALE, "tiny"), tmp_path, transposed=kind == "gpt2")
    plain = tiny_network(kind, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(plain, str(tmp_path))
    expected = model.forward(split.x, layers, SCALE).detach()
    torch.testing.assert_close(logits_of(loaded, model, split), expected, rtol=1e-5, atol=1e-5)


def test_a_folder_that_peft_wrote_for_another_class_is_read(tmp_path):
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    classifier = transformers.BertForSequenceClassification(config).eval()
    lora = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["query"], init_lora_weights=False)
    wrapped = peft.get_peft_model(classifier, lora)
    wrapped.save_pretrained(tmp_path)
    adapter = import_adapter(tmp_path, prefix="bert.")
    assert adapter.scale == 1.5
    split = random_texts(5)
    mask = split.x >= 0
    with torch.no_grad():
        expected = wrapped.base_model.model.bert(split.x.clamp(min=0), mask.long()).last_hidden_state[mask]
    # The same weights without PEFT's modules, with the imported update.
    network = transformers.BertModel(config)
    state = {
        key.replace("base_layer.", ""): value
        for key, value in wrapped.base_model.model.bert.state_dict().items()
    }
    network.load_state_dict({key: value for key, value in state.items() if "lora" not in key}, strict=False)
    model = adapt(network, "query", NextToken(), 9)
    found = merged_network(model, adapter.layers, adapter.scale)(split.x.clamp(min=0), mask.long())
    torch.testing.assert_close(found.last_hidden_state[mask].detach(), expected, rtol=1e-5, atol=1e-5)


def change_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora = True; only plain low-rank updates"),
        ({"peft_type": "IA3"}, "peft_type = IA3"),
        ({"bias": "all"}, "bias = all"),
        ({"alpha_pattern": {"query": 9.0}}, "has scale .*; only one can be read"),
    ],
)
def test_a_folder_that_is_more_than_a_low_rank_update_is_refused(tmp_path, changes, words):
    _, layers, _ = case("bert")
    export_adapter(PeftAdapter(layers, SCALE, "tiny"), tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(DataError, match=words):
        import_adapter(tmp_path)


def test_damaged_folders_and_stacks_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"adapter_config\.json: cannot be read"):
        import_adapter(tmp_path)
    model, layers, _ = case("bert")
    with pytest.raises(ValueError, match="take one task or device"):
        export_adapter(PeftAdapter(random_factors(model, stack=(2,)), SCALE, "tiny"), tmp_path)
    export_adapter(PeftAdapter(layers, SCALE, "tiny"), tmp_path)
    with pytest.raises(
        DataError, match="no factor of a linear layer whose name begins with 'base_model.model.bert.'"
    ):
        import_adapter(tmp_path, prefix="bert.")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors: cannot be read"):
        import_adapter(tmp_path)
