import sys

import pytest
import torch
from transformer_builders import tiny_heads, tiny_network

from airsim.errors import DataError
from airsim.learn.adapters import AdapterRanks, initial_adapters
from airsim.learn.batches import pad
from airsim.learn.data.tasks import Split
from airsim.learn.data.tokens import Encoder
from airsim.learn.models.heads import NextToken, random_heads
from airsim.learn.models.pretrained import load_network, load_tokeniser, minilm_folder
from airsim.learn.models.transformer import adapt
from airsim.randomness import RandomStreams

needs_minilm = pytest.mark.skipif(minilm_folder() is None, reason="the extra [minilm] is not installed")


def test_a_network_is_loaded_from_its_folder_for_what_it_is_read_for(tmp_path):
    tiny_network("llama-lm", dtype=torch.float32).save_pretrained(tmp_path)
    assert type(load_network(str(tmp_path), tiny_heads())).__name__ == "LlamaModel"
    assert type(load_network(str(tmp_path), NextToken())).__name__ == "LlamaForCausalLM"


def test_what_cannot_be_loaded_is_named_with_the_way_out(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot be loaded .*give the folder of a model that is here"):
        load_network(str(tmp_path), tiny_heads())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="HF_HUB_OFFLINE = 1 forbids downloads; unset it, or give the folder"):
        load_tokeniser(str(tmp_path / "nothing"))
    monkeypatch.setattr("airsim.learn.models.pretrained.MINILM_PACKAGE", "no_such_package")
    with pytest.raises(DataError, match=r"pip install 'airsim-fl\[minilm\]'"):
        load_network("minilm", tiny_heads())
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"pip install 'airsim-fl\[llm\]'"):
        load_tokeniser("minilm")


@needs_minilm
def test_minilm_tells_sentences_apart_and_has_gradients_of_every_device(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    heads = random_heads([2], 384, RandomStreams(0))
    model = adapt(load_network("minilm", heads), r"layer\.5\..*(query|value)", heads, 16)
    texts = ("a cat sleeps on the sofa", "the kitten naps on the couch", "shares fell after the report")
    tokens = Encoder(load_tokeniser("minilm"), 16).rows("cats", texts)
    with torch.no_grad():
        output, mask = model.network_output(tokens)
    cosine = torch.nn.functional.cosine_similarity
    one, same, other = (output.last_hidden_state * mask.unsqueeze(-1)).sum(dim=1)
    assert cosine(one, same, dim=0) > 0.6 > 0.2 > cosine(one, other, dim=0)
    layers = initial_adapters(model.layer_shapes, 1, AdapterRanks(2, 2), 1.0, RandomStreams(0)).for_task(0)
    splits = [Split(tokens[[row]], torch.tensor([row % 2])) for row in range(3)]
    result = model.for_task(0).device_gradients(layers, 1.0, pad(splits))
    assert result.losses.shape == (3,)
    assert all((factors.b.flatten(1).norm(dim=1) > 0).all() for factors in result.layers.values())
