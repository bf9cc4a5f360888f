r"""Shares of one resource at which every device stands at the same level.

Minimising a sum of convex functions of shares :math:`\theta_k \ge 0`, :math:`\sum_k \theta_k = 1`, or a
maximum of falling ones, ends where all have the same derivative, or the same value. Both are found by
bisection on the common level, around a bisection on each share.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Shares = Float[np.ndarray, "B K"]
Level = Callable[[Shares], Shares]
HALVINGS = 45
LEAST_LOG_SHARE = -40.0


def equal_level_shares(level: Level, needed: Bool[np.ndarray, "B K"]) -> Shares:
    """Shares of those that need one; `level` rises with the share. Exact up to rounding, and summing to 1."""
    even = 1 / np.maximum(needed.sum(axis=-1, keepdims=True), 1)
    levels = level(np.broadcast_to(even, needed.shape))
    low = np.where(needed, levels, np.inf).min(axis=-1, keepdims=True)
    high = np.where(needed, levels, -np.inf).max(axis=-1, keepdims=True)
    low, high = (np.where(np.isfinite(end), end, 0.0) + np.zeros(needed.shape) for end in (low, high))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = (_shares_at(level, middle) * needed).sum(axis=-1, keepdims=True) >= 1
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    shares = _shares_at(level, high) * needed
    total = shares.sum(axis=-1, keepdims=True)
    return shares / np.where(total > 0, total, 1.0)


def _shares_at(level: Level, wanted: Shares) -> Shares:
    """The share at which each device reaches a level, at most all."""
    low = np.full_like(wanted, LEAST_LOG_SHARE)
    high = np.zeros_like(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = level(np.exp(middle)) >= wanted
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.exp(high)


def equal_rate_level(snr: Shares) -> Level:
    r"""Rates :math:`\theta_k \ln(1 + s_k / \theta_k)`: energy of the whole frame in a share of it."""
    return lambda shares: shares * np.log1p(snr / shares)


def distortion_level(snr: Shares, targets: Shares) -> Level:
    r"""Minus the logarithm of how fast :math:`\omega_k^2 (1 + s_k / \theta_k)^{-\theta_k}` falls."""
    safe = np.where(targets > 0, targets, 1.0)

    def level(shares: Shares) -> Shares:
        ratio = np.where(snr > 0, snr, 1.0) / shares
        # ln(1 + u) - u / (1 + u) loses all digits where u is small; there it is u^2 / 2 - 2 u^3 / 3.
        small = ratio < 1e-4
        plain = np.log1p(ratio) - ratio / (1 + ratio)
        slope = np.where(
            small, 2 * np.log(ratio) + np.log1p(-4 / 3 * np.where(small, ratio, 0.0)) - np.log(2), 0.0
        )
        slope = np.where(small, slope, np.log(np.where(small, 1.0, plain)))
        return shares * np.log1p(ratio) - slope - 2 * np.log(safe)

    return level
