"""A cohort of any size in chunks that fit the cache: memory does not grow with the number of devices."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.moments import PayloadMoments
from airsim.learn.parallel import CPU, in_order
from airsim.learn.weighted import WeightedGradients, WeightedPass

# Activations and derivatives of one chunk: 64 devices of W2 in `tests/benchmarks`. Smaller chunks spend their
# time between products, larger ones leave the cache. Sums are added chunk by chunk, so another size gives
# other bits.
BYTES_PER_CHUNK = 13 * 2**20
# A GPU has no such cache and wants work enough for all its cores; chosen, not measured.
BYTES_PER_GPU_CHUNK = 512 * 2**20
BYTES_PER_ENTRY = 4

Draw = Callable[[range], PaddedBatch]


def devices_per_chunk(model: AbstractBaseModel, rows: int, device: torch.device = CPU) -> int:
    """How many devices with this many samples each are computed together; at least one."""
    size = BYTES_PER_CHUNK if device.type == "cpu" else BYTES_PER_GPU_CHUNK
    return max(1, size // (BYTES_PER_ENTRY * rows * model.entries_per_sample))


def stream_weighted(
    weighted_pass: WeightedPass,
    draw: Draw,
    weights: Float[Tensor, "V K J"],
    rows: int,
    threads: int | None = None,
) -> WeightedGradients:
    """Weighted sums over all devices, and everybody's losses and moments, in one pass over the cohort.

    `draw` gives the batch of consecutive devices, at most `rows` rows each, and is called on several threads.
    """
    num_devices = weights.shape[1]
    size = devices_per_chunk(weighted_pass.model, rows, weights.device)
    chunks = [range(start, min(start + size, num_devices)) for start in range(0, num_devices, size)]

    def pass_chunk(devices: range) -> WeightedGradients:
        return weighted_pass(draw(devices), weights[:, devices.start : devices.stop])

    return _total(in_order(pass_chunk, chunks, threads, weights.device))


def _total(parts: Iterator[WeightedGradients]) -> WeightedGradients:
    first = next(parts)
    sums, seen = dict(first.sums), [first]
    for part in parts:
        sums = {name: _add(sums[name], part.sums[name]) for name in sums}
        seen.append(WeightedGradients(part.losses, {}, part.moments))
    moments = PayloadMoments(
        torch.cat([part.moments.sums for part in seen]),
        torch.cat([part.moments.squares for part in seen]),
        first.moments.entries,
    )
    return WeightedGradients(torch.cat([part.losses for part in seen]), sums, moments)


def _add(total: LoRAFactors, part: LoRAFactors) -> LoRAFactors:
    return LoRAFactors(total.a + part.a, total.b + part.b)
