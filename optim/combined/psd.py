"""How far one may go inside a cone: of positive semidefinite matrices, receivers at once, or of numbers."""

import numpy as np
from jaxtyping import Complex, Float

Squares = tuple[Complex[np.ndarray, "_ _ _"], ...]

# Eigenvalues below this part of the largest are rounding.
FLOOR = 1e-15


def inverse_roots(squares: Squares) -> Squares:
    """``Q^{-1/2}`` of positive definite matrices."""
    roots = []
    for square in squares:
        values, modes = np.linalg.eigh(square)
        top = np.maximum(values[..., -1:], np.finfo(float).tiny)
        scaled = modes / np.sqrt(np.sqrt(np.maximum(values, FLOOR * top)))[..., None, :]
        roots.append(scaled @ np.swapaxes(scaled.conj(), -1, -2))
    return tuple(roots)


def largest_step(roots: Squares, steps: Squares) -> float:
    """The largest t with ``Q + t D`` positive semidefinite everywhere, from the roots ``Q^{-1/2}``."""
    lowest = 0.0
    for root, step in zip(roots, steps, strict=True):
        values = np.linalg.eigvalsh(root @ step @ root)[..., :1]
        lowest = min(lowest, float(values.min(initial=0.0)))
    return -1 / lowest if lowest < 0 else np.inf


def largest_ratio_step(values: Float[np.ndarray, "M"], steps: Float[np.ndarray, "M"]) -> float:
    """The largest t with ``q + t d`` at least 0 everywhere."""
    falling = steps < 0
    return float((-values[falling] / steps[falling]).min(initial=np.inf))
