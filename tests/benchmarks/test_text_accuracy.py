"""Five tasks of text on MiniLM with AirPFed-LoRA, error-free: the reference of learning over the air."""

import os
from pathlib import Path

import pytest
import torch

from airsim.learn.adapters import AdapterRanks, DualAdapters, LoRAFactors, flatten, initial_adapters
from airsim.learn.batches import pad
from airsim.learn.data.partition import IidPartition
from airsim.learn.data.tasks import Split
from airsim.learn.data.text import load_text
from airsim.learn.data.text_tasks import TextPlan, build_text_federation
from airsim.learn.data.tokens import Encoder
from airsim.learn.evaluation import evaluate
from airsim.learn.models.heads import random_heads, with_trained_heads
from airsim.learn.models.pretrained import load_network, load_tokeniser, minilm_folder
from airsim.learn.models.transformer import adapt
from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.randomness import RandomStreams

TASKS = ("sst2", "trec", "subj", "mr", "agnews")
TOKENS = 24
# The four lower layers stay as they are, so that what they give is computed once.
PATTERN = r"layer\.[45]\..*(query|value)"
PLAN = TextPlan(devices_per_task=4, training=600, test=250, partition=IidPartition())
BATCH, ROUNDS, LEARNING_RATE, SCALE = 6, 90, 0.3, 1.0
MODES = {
    "dual": AdapterRanks(8, 8),
    "shared only": AdapterRanks(16, 0),
    "personal only": AdapterRanks(0, 16),
    "heads only": None,
}
STREAMS = RandomStreams(0)

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(minilm_folder() is None, reason="the extra [minilm] is not installed"),
    pytest.mark.skipif("AIRSIM_DATA_DIR" not in os.environ, reason="AIRSIM_DATA_DIR is not set"),
]


def federation():
    encoder = Encoder(load_tokeniser("minilm"), TOKENS)
    folder = Path(os.environ["AIRSIM_DATA_DIR"])
    sources = [encoder.encode(load_text(name, folder)) for name in TASKS]
    classes = [source.num_classes for source in sources]
    return build_text_federation(sources, PLAN, STREAMS), random_heads(classes, 384, STREAMS)


def draw(split, round_index, device):
    rng = STREAMS.generator("batch", round_index, device)
    chosen = torch.from_numpy(rng.choice(split.size, BATCH, replace=False))
    return Split(split.x[chosen], split.y[chosen])


def one_round(model, adapters, data, round_index):
    """Gradients of all devices: the shared part averaged over everybody, the personal one within a task."""
    shared, personal = [], []
    for task in range(len(TASKS)):
        members = [device for device, own in enumerate(data.task_of_device) if own == task]
        batch = pad([draw(data.devices[device], round_index, device) for device in members])
        found = model.for_task(task).device_gradients(adapters.for_task(task), SCALE, batch).layers
        parts = {name: own.split(adapters.shared[name].rank) for name, own in found.items()}
        shared.append(flatten({name: part[0] for name, part in parts.items()}))
        personal.append(flatten({name: part[1] for name, part in parts.items()}).mean(dim=0))
    operator = AirPFedLoRA(LEARNING_RATE)
    return operator.apply(adapters, torch.cat(shared).mean(dim=0), torch.stack(personal))


def start(model, heads, ranks):
    """Adapters of these ranks and the heads; without ranks the heads alone."""
    adapters = initial_adapters(model.layer_shapes, len(TASKS), ranks or AdapterRanks(1, 0), 1.0, STREAMS)
    adapters = with_trained_heads(adapters, heads)
    if ranks is None:  # with A = 0 and B = 0 an adapter has no gradient
        still = {
            name: LoRAFactors(torch.zeros_like(own.a), torch.zeros_like(own.b))
            for name, own in adapters.shared.items()
        }
        return DualAdapters(still, adapters.personal)
    return adapters


def print_row(name, evaluation):
    cells = " ".join(
        f"{task} {one:.3f}" for task, one in zip(TASKS, evaluation.accuracy_per_task, strict=True)
    )
    print(f"{name:22s} {cells}  mean {evaluation.accuracy:.3f} worst {evaluation.accuracy_worst_task:.3f}")


def test_shared_and_personal_adapters_learn_five_tasks_of_text():
    data, heads = federation()
    model = adapt(load_network("minilm", heads), PATTERN, heads, TOKENS)
    rounded = adapt(load_network("minilm", heads), PATTERN, heads, TOKENS, torch.bfloat16)
    model = model.with_known_texts([split.x for split in (*data.devices, *data.tests)])
    means = {}
    for mode, ranks in MODES.items():
        adapters = start(model, heads, ranks)
        for round_index in range(ROUNDS):
            adapters = one_round(model, adapters, data, round_index)
        result = evaluate(model, adapters, SCALE, data.tests)
        print_row(mode, result)
        means[mode] = result.accuracy
        if mode == "dual":
            print_row("dual, bfloat16 base", evaluate(rounded, adapters, SCALE, data.tests))
    assert means["dual"] > means["heads only"]
