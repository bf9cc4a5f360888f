"""Weighted sums of device gradients and their statistics from one backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.adapters import LoRAFactors
from airsim.learn.batches import PaddedBatch
from airsim.learn.lora import AbstractLinear
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.moments import PayloadMoments, StreamLayout, entry_squares, entry_sums, prefers_gram


@dataclass(frozen=True)
class WeightedGradients:
    """What the air computes of some devices: weighted sums, and each device's loss and moments.

    `sums` holds one pair of factors per set of weights, along the leading axis.
    """

    losses: Float[Tensor, "K"]
    sums: Mapping[str, LoRAFactors]
    moments: PayloadMoments


@dataclass(frozen=True)
class FactorSums:
    """One factor's weighted sums, and sums and squares of its gradient's entries per component."""

    weighted: Float[Tensor, "V R W"]
    sums: Float[Tensor, "K R"]
    squares: Float[Tensor, "K R"]


@dataclass(frozen=True)
class WeightedPass:
    r"""The pass for devices that hold the same adapters and whose weights are known before it.

    .. math:: \sum_k g_{vkj} \nabla A_k = \sum_k \sum_{i \in k} (g_{vkj}\,p_i)\,x_i^T

    with weight set v and stream j of the component, so that shared and personal sums (and real and imaginary
    parts of a gain) come from one pass. A device's own gradient is formed in the chunk at hand or, for few
    rows, not at all: then its second moment is a Gram product of rows, as in private training [Li22].
    """

    model: AbstractBaseModel
    linears: Mapping[str, AbstractLinear]
    layout: StreamLayout

    def __call__(self, batch: PaddedBatch, weights: Float[Tensor, "V K J"]) -> WeightedGradients:
        """Sums and moments of the devices in the batch."""
        passed = self.model.backpropagate(batch, self.linears)
        sums, moments = {}, []
        for name, trace in passed.traces.items():
            membership = self.layout.membership(name, trace.inner)
            spread = weights @ membership
            a = factor_sums(trace.projected, trace.x, spread)
            b = factor_sums(trace.inner, trace.d, spread)
            rank = sum(self.layout.components[name])
            sums[name] = LoRAFactors(a.weighted[:, :rank], b.weighted[:, :rank].mT)
            moments.append(torch.stack((a.sums + b.sums, a.squares + b.squares)) @ membership.mT)
        first, second = torch.stack(moments).sum(dim=0)
        entries = self.layout.entries(self.model.layer_shapes)
        return WeightedGradients(passed.losses, sums, PayloadMoments(first, second, entries))


def factor_sums(
    thin: Float[Tensor, "K P R"], wide: Float[Tensor, "K P W"], weights: Float[Tensor, "V K R"]
) -> FactorSums:
    """Weighted sums over devices of ``thin_k^T wide_k``, row r of device k weighing ``weights[:, k, r]``."""
    if prefers_gram(thin.shape[1], thin.shape[2], wide.shape[2]):
        return _through_rows(thin, wide, weights)
    return _through_gradients(thin, wide, weights)


def _through_rows(
    thin: Float[Tensor, "K P R"], wide: Float[Tensor, "K P W"], weights: Float[Tensor, "V K R"]
) -> FactorSums:
    # V K P R -> V R K P, so that all rows of all devices meet in one product.
    weighted = (thin * weights.unsqueeze(2)).permute(0, 3, 1, 2).flatten(start_dim=2)
    return FactorSums(weighted @ wide.flatten(end_dim=1), entry_sums(thin, wide), entry_squares(thin, wide))


def _through_gradients(
    thin: Float[Tensor, "K P R"], wide: Float[Tensor, "K P W"], weights: Float[Tensor, "V K R"]
) -> FactorSums:
    gradients = thin.mT @ wide
    # R V K times R K W: one row of weights against one component of all devices; contiguous, or bmm copies.
    weighted = weights.permute(2, 0, 1).contiguous() @ gradients.transpose(0, 1)
    squares = torch.linalg.vector_norm(gradients, dim=-1).square()
    return FactorSums(weighted.transpose(0, 1), gradients.sum(dim=-1), squares)
