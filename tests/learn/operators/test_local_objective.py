"""Terms of local objectives against autograd and against their meaning."""

import math

import pytest
import torch

from airsim.learn.operators.local_objective import (
    contrastive_loss,
    corrected_gradient,
    next_control,
    proximal_gradient,
    proximal_term,
)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(seed):
    return {"weight": draw(seed, 3, 2), "bias": draw(seed + 100, 3)}


def test_the_proximal_gradient_is_that_of_the_proximal_term():
    own, anchor = parameters(1), parameters(2)
    leaves = {name: x.clone().requires_grad_() for name, x in own.items()}
    proximal_term(leaves, anchor, 0.3).backward()
    for name, gradient in proximal_gradient(own, anchor, 0.3).items():
        torch.testing.assert_close(gradient, leaves[name].grad)


def test_the_proximal_term_is_half_the_weighted_squared_distance():
    own = {"weight": torch.tensor([3.0, 4.0])}
    assert float(proximal_term(own, {"weight": torch.zeros(2)}, 0.2)) == pytest.approx(2.5)


def test_after_plain_corrected_steps_the_new_control_is_the_mean_gradient():
    own, common, start = parameters(1), parameters(2), parameters(3)
    end, seen, rate, steps = dict(start), [], 0.1, 4
    for step in range(steps):
        gradient = parameters(10 + step)
        seen.append(gradient)
        direction = corrected_gradient(gradient, own, common)
        end = {name: end[name] - rate * direction[name] for name in end}
    for name, control in next_control(own, common, start, end, rate * steps).items():
        torch.testing.assert_close(control, sum(gradient[name] for gradient in seen) / steps)


def test_no_local_step_leaves_no_control():
    with pytest.raises(ValueError, match=r"step_sum = 0\.0"):
        next_control(parameters(1), parameters(2), parameters(3), parameters(3), 0.0)


def test_the_contrastive_loss_is_the_cross_entropy_of_two_similarities():
    z, near, far = draw(1, 2, 5, 4), draw(2, 2, 5, 4), draw(3, 2, 5, 4)
    cosine = torch.nn.functional.cosine_similarity
    logits = torch.stack((cosine(z, near, dim=-1), cosine(z, far, dim=-1)), dim=-1) / 0.5
    expected = -torch.log_softmax(logits, dim=-1)[..., 0]
    torch.testing.assert_close(contrastive_loss(z, near, far, 0.5), expected)


def test_the_contrastive_loss_of_equal_models_is_the_logarithm_of_two_and_moves_only_the_own_model():
    z = draw(1, 5, 4)
    torch.testing.assert_close(
        contrastive_loss(z, z, z, 0.5), torch.full((5,), math.log(2.0), dtype=torch.float64)
    )
    own, near, far = (draw(seed, 5, 4).requires_grad_() for seed in (1, 2, 3))
    contrastive_loss(own, near, far, 0.5).sum().backward()
    assert own.grad.abs().sum() > 0 and near.grad is None and far.grad is None
