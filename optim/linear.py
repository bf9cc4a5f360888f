"""Linear systems ``I + G`` that stay solvable when G drowns the identity."""

import numpy as np
from jaxtyping import Inexact


def solve_ridge(
    matrix: Inexact[np.ndarray, "*batch d d"], right: Inexact[np.ndarray, "*batch d c"]
) -> Inexact[np.ndarray, "*batch d c"]:
    """``matrix^-1 right`` for Hermitian positive definite matrices.

    Beyond strengths of 1e8 the identity in ``I + G`` falls below rounding, and a matrix may come out
    singular; then a ridge as large as the rounding, ``d eps tr``, stands in for what was lost.
    """
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        size = matrix.shape[-1]
        trace = np.trace(matrix, axis1=-2, axis2=-1).real[..., None, None]
        ridge = size * np.finfo(np.float64).eps * trace * np.eye(size)
        return np.linalg.solve(matrix + ridge, right)
