"""A tiny encoder and a few sentences as scenarios find them: saved in folders."""

import pytest
import transformers
from sentences import both_sources, word_tokeniser

from airsim import Scenario

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A network and its tokeniser, saved as Hugging Face saves them."""
    folder, tokeniser = tmp_path_factory.mktemp("encoder"), word_tokeniser()
    transformers.set_seed(0)
    config = transformers.BertConfig(vocab_size=len(tokeniser), **ENCODER)
    transformers.BertModel(config).save_pretrained(folder)
    tokeniser.save_pretrained(folder)
    return folder


@pytest.fixture
def text_scenario(encoder_folder, tmp_path, monkeypatch):
    """A builder of small text scenarios, with changes by dotted key."""
    (tmp_path / "text").mkdir()
    names = []
    for source in both_sources():
        for split, part in (("train", source.train), ("test", source.test)):
            lines = [f"{text}\t{label}" for text, label in zip(part.texts, part.labels, strict=True)]
            path = tmp_path / "text" / f"{source.name}.{split}.tsv"
            path.write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
        names.append(source.name)
    monkeypatch.setenv("AIRSIM_DATA_DIR", str(tmp_path))

    def build(**changes):
        small = {
            "learning.model.network": str(encoder_folder),
            "learning.model.adapted_layers": r"layer\.1\..*(query|value|dense)",
            "learning.model.tokens": 10,
            "learning.data.tasks": names,
            "learning.data.training_texts": "all",
            "learning.data.test_texts": "all",
            "learning.adapters": {"shared_rank": 2, "personal_rank": 2},
            "learning.batch": "full",
            "network.devices.per_edge_server": 2,
            "stop.rounds": 30,
            "record.evaluate_every": 30,
        }
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return Scenario.load("airpfed-text").with_overrides(small | dotted)

    return build
