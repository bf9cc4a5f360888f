"""Tiny transformers and texts for the tests, built from a configuration: nothing is downloaded."""

import torch
import transformers

from airsim.learn.adapters import LoRAFactors
from airsim.learn.data.tasks import Split
from airsim.learn.models.heads import ClassificationHeads, NextToken
from airsim.learn.models.transformer import adapt

SCALE = 0.7
VOCABULARY = 50
PATTERNS = {
    "bert": "query|value",
    "llama": r"[qv]_proj|down_proj",
    "gpt2": "c_attn|c_fc",
    "llama-lm": "[qv]_proj",
}


def tiny_network(kind="bert", seed=0, num_layers=2, dtype=torch.float64):
    """A network of two layers of width 32."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "bert":
            config = transformers.BertConfig(**sizes, intermediate_size=48, max_position_embeddings=32)
            network = transformers.BertModel(config)
        elif kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=32,
                n_embd=32,
                n_layer=num_layers,
                n_head=4,
                use_cache=False,
            )
            network = transformers.GPT2Model(config)
        else:
            config = transformers.LlamaConfig(
                **sizes, intermediate_size=48, num_key_value_heads=2, use_cache=False
            )
            build = transformers.LlamaForCausalLM if kind == "llama-lm" else transformers.LlamaModel
            network = build(config)
        for parameter in network.parameters():  # the usual start is so small that little depends on anything
            parameter.data += torch.randn(parameter.shape) * 0.1
    return network.to(dtype).eval()


def tiny_heads(num_tasks=3, most_classes=4, width=32, seed=5):
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_tasks, most_classes, width, generator=rng, dtype=torch.float64)
    bias = torch.randn(num_tasks, most_classes, generator=rng, dtype=torch.float64)
    return ClassificationHeads(weight, bias, torch.arange(num_tasks) % (most_classes - 1) + 2)


def tiny_model(kind="bert", pattern=None, **changes):
    objective = NextToken() if kind.endswith("-lm") else tiny_heads()
    return adapt(tiny_network(kind, **changes), pattern or PATTERNS[kind], objective, sequence_length=9)


def random_factors(model, rank=3, stack=(), seed=1, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*stack, *shape, generator=rng, dtype=dtype) / 3

    shapes = model.layer_shapes.items()
    return {name: LoRAFactors(draw(rank, one.inputs), draw(one.outputs, rank)) for name, one in shapes}


def random_texts(size, length=9, num_classes=2, seed=2):
    """Token rows of unequal lengths with labels."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (size, length), generator=rng)
    lengths = torch.randint(2, length + 1, (size, 1), generator=rng)
    tokens = torch.where(torch.arange(length) < lengths, tokens, -1)
    return Split(tokens, torch.randint(num_classes, (size,), generator=rng))
