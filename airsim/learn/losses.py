"""Losses of whole cohorts and their derivatives at the logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.batches import PaddedBatch


def cross_entropy(
    logits: Float[Tensor, "*K B C"], batch: PaddedBatch
) -> tuple[Float[Tensor, "*K"], Float[Tensor, "*K B C"]]:
    """Mean loss of each device, and the derivative at the logits: ``(softmax - one hot) / B_k``."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    labels, weights = batch.y.unsqueeze(-1), batch.weights.unsqueeze(-1)
    losses = -(log_probabilities.gather(-1, labels) * weights).sum(dim=(-2, -1))
    errors = log_probabilities.exp_().scatter_(-1, labels, -1.0, reduce="add")
    return losses, errors.mul_(weights)
