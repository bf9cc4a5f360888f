"""Learning from texts with AirPFed-LoRA: the embedded sentences on a tiny encoder."""

import pytest
import torch
import transformers
from sentences import both_sources, word_tokeniser

from airsim.learn.adapters import AdapterRanks, flatten, initial_adapters
from airsim.learn.batches import pad
from airsim.learn.data.partition import IidPartition
from airsim.learn.data.text_tasks import TextPlan, build_text_federation
from airsim.learn.data.tokens import Encoder
from airsim.learn.evaluation import evaluate
from airsim.learn.models.heads import random_heads, with_trained_heads
from airsim.learn.models.transformer import adapt
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.randomness import RandomStreams

STREAMS = RandomStreams(0)


def federation():
    encoder = Encoder(word_tokeniser(), 10)
    sources = [encoder.encode(source) for source in both_sources()]
    return build_text_federation(sources, TextPlan(2, None, None, IidPartition()), STREAMS)


def tiny_encoder(num_words):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertModel(
            transformers.BertConfig(
                vocab_size=num_words,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=16,
                initializer_range=0.2,
            )
        )


def one_round(model, adapters, data, operator):
    """Error-free: gradients of all devices, averaged over everybody and within each task."""
    shared, personal = [], []
    for task in range(len(data.tests)):
        own = [split for k, split in enumerate(data.devices) if data.task_of_device[k] == task]
        found = model.for_task(task).device_gradients(adapters.for_task(task), 1.0, pad(own))
        parts = {name: own.split(adapters.shared[name].rank) for name, own in found.layers.items()}
        shared.append(flatten({name: part[0] for name, part in parts.items()}))
        personal.append(flatten({name: part[1] for name, part in parts.items()}).mean(dim=0))
    return operator.apply(adapters, torch.cat(shared).mean(dim=0), torch.stack(personal))


@pytest.mark.parametrize("trained", [True, False], ids=["trained-heads", "frozen-heads"])
def test_shared_and_personal_adapters_learn_two_tasks_of_texts(trained):
    data = federation()
    words = 1 + max(int(split.x.max()) for split in (*data.devices, *data.tests))
    heads = random_heads([2, 3], 32, STREAMS)
    model = adapt(tiny_encoder(words), "query|value|dense", heads, 10)
    adapters = initial_adapters(model.layer_shapes, 2, AdapterRanks(2, 2), 1.0, STREAMS)
    adapters = with_trained_heads(adapters, heads) if trained else adapters
    held_by_devices = [
        type(data.tests[0])(torch.cat([s.x for s in own]), torch.cat([s.y for s in own]))
        for own in (data.devices[:2], data.devices[2:])
    ]
    before, operator = evaluate(model, adapters, 1.0, held_by_devices), AirPFedLoRA(0.3)
    for _ in range(40):
        adapters = one_round(model, adapters, data, operator)
    after = evaluate(model, adapters, 1.0, held_by_devices)
    assert after.loss < before.loss / 2
    assert after.accuracy_worst_task > 0.7 > before.accuracy_worst_task
