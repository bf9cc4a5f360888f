"""Factors as vectors: which entries travel, in which order, and how much weight stands behind each."""

import enum
import itertools
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from airsim.learn.adapter_stack import AdapterStack, rank_mask
from airsim.learn.adapters import LoRAFactors


class Live(enum.Flag):
    """The factors of a layer that are trained, or that travel."""

    A = enum.auto()
    B = enum.auto()
    BOTH = A | B


LiveLayers = Mapping[str, Live]


def everywhere(like: Mapping[str, LoRAFactors], live: Live) -> dict[str, Live]:
    """The same factors in every layer."""
    return dict.fromkeys(like, live)


def flatten_live(layers: Mapping[str, LoRAFactors], live: LiveLayers) -> Float[Tensor, "*stack D"]:
    """The payload vector: layer by layer, ``B`` and then ``A``, row by row, live ones only."""
    parts = [part.flatten(start_dim=-2) for name in layers for part in _live_parts(layers[name], live[name])]
    return torch.cat(parts, dim=-1)


def flatten_change(
    new: Mapping[str, LoRAFactors], old: Mapping[str, LoRAFactors], live: LiveLayers
) -> Float[Tensor, "K D"]:
    """`flatten_live` of new factors minus that of old ones, written once."""
    pairs = [
        pair
        for name in new
        for pair in zip(_live_parts(new[name], live[name]), _live_parts(old[name], live[name]), strict=True)
    ]
    ends = list(itertools.accumulate(part.shape[1:].numel() for part, _ in pairs))
    payload = pairs[0][0].new_empty(len(pairs[0][0]), ends[-1])
    for (after, before), end in zip(pairs, ends, strict=True):
        entries = payload[:, end - after.shape[1:].numel() : end]
        torch.sub(after, before, out=entries.unflatten(-1, after.shape[1:]))
    return payload


def place(
    payload: Float[Tensor, "*stack D"], like: Mapping[str, LoRAFactors], live: LiveLayers
) -> dict[str, LoRAFactors]:
    """The factors of `like` with the live ones from a payload: the inverse of `flatten_live`."""
    size = sum(part.shape[-2:].numel() for name in like for part in _live_parts(like[name], live[name]))
    if payload.shape[-1] != size:
        raise ValueError(f"payload has {payload.shape[-1]} entries, the live factors {size}: they must agree")
    layers, start = {}, 0
    for name, factors in like.items():
        parts = {Live.B: factors.b, Live.A: factors.a}
        for factor, old in parts.items():
            if factor in live[name]:
                entries = payload[..., start : start + old.shape[-2:].numel()]
                parts[factor] = entries.unflatten(-1, old.shape[-2:]).to(old.dtype)
                start += old.shape[-2:].numel()
        layers[name] = LoRAFactors(parts[Live.A], parts[Live.B])
    return layers


def sent_entries(stack: AdapterStack, live: LiveLayers) -> Bool[Tensor, "K D"]:
    """Which entries of the padded vector a device of its rank has; a view where all ranks are the same."""
    same = bool((stack.ranks == stack.ranks[0]).all())
    ranks = (stack.ranks[:1] if same else stack.ranks).to(next(iter(stack.layers.values())).a.device)
    parts = []
    for name, factors in stack.layers.items():
        own = rank_mask(factors.rank, ranks)
        b = own.unsqueeze(-2).expand(-1, factors.b.shape[-2], -1)
        a = own.unsqueeze(-1).expand(-1, -1, factors.a.shape[-1])
        parts += [part.flatten(1) for factor, part in ((Live.B, b), (Live.A, a)) if factor in live[name]]
    return torch.cat(parts, dim=-1).expand(stack.num_devices, -1)


def coverage(
    like: Mapping[str, LoRAFactors],
    live: LiveLayers,
    ranks: Int[Tensor, "K"],
    weights: Float[Tensor, "K"],
) -> Float[Tensor, "D"]:
    r"""Weight of the devices that have each entry: :math:`\sum_{k: r_k > i} p_k` at rank index i."""
    covered = {}
    for name, factors in like.items():
        share = (weights.unsqueeze(-1) * rank_mask(factors.rank, ranks)).sum(dim=0)
        a = share.unsqueeze(-1).expand(factors.a.shape)
        covered[name] = LoRAFactors(a, share.expand(factors.b.shape))
    return flatten_live(covered, live)


def _live_parts(factors: LoRAFactors, live: Live) -> list[Tensor]:
    return [part for factor, part in ((Live.B, factors.b), (Live.A, factors.a)) if factor in live]
