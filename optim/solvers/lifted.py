r"""Hermitian matrices in real coordinates, so that cvxpy compiles a lifted program once per shape.

Complex parameters would make cvxpy rebuild a program for every new channel. In an orthonormal basis
:math:`G_i` of Hermitian matrices both :math:`X = \sum_i z_i G_i` and :math:`a X a^H = \sum_i (a G_i a^H) z_i`
are real and linear, and :math:`X \succeq 0` is a constant linear map of z.
"""

import functools
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Complex, Float
from scipy import sparse


@functools.lru_cache(maxsize=64)
def hermitian_basis(size: int) -> Complex[np.ndarray, "d n n"]:
    """Diagonal units, then the real and imaginary parts of the upper triangle; orthonormal."""
    above = np.triu_indices(size, 1)
    basis = np.zeros((size + 2 * len(above[0]), size, size), dtype=np.complex128)
    basis[np.arange(size), np.arange(size), np.arange(size)] = 1.0
    for offset, entry in ((0, 1.0), (len(above[0]), 1j)):
        places = size + offset + np.arange(len(above[0]))
        basis[places, *above] = entry / np.sqrt(2)
        basis[places, *above[::-1]] = np.conj(entry) / np.sqrt(2)
    basis.setflags(write=False)
    return basis


def gain_coordinates(rows: Complex[np.ndarray, "K n"]) -> Float[np.ndarray, "K d"]:
    """``a_k G_i a_k^H``: the squared gains of ``X = sum z_i G_i`` are these times z."""
    basis = hermitian_basis(rows.shape[-1])
    return np.einsum("ki,dij,kj->kd", rows, basis, rows.conj(), optimize=True).real


def trace_coordinates(size: int) -> Float[np.ndarray, "d"]:
    """``tr G_i``."""
    return np.trace(hermitian_basis(size), axis1=1, axis2=2).real


def matrix(coordinates: Float[np.ndarray, "d"]) -> Complex[np.ndarray, "n n"]:
    """The Hermitian matrix of its coordinates."""
    size = round(np.sqrt(len(coordinates)))
    return np.tensordot(coordinates, hermitian_basis(size), axes=1)


def lifted_variable(size: int) -> tuple[Any, Any]:
    """Coordinates of a Hermitian n x n matrix, and the constraint that it is positive semidefinite."""
    basis = hermitian_basis(size)
    # [[Re, -Im], [Im, Re]] is semidefinite exactly when the complex matrix is.
    blocks = np.concatenate(
        [np.stack([basis.real, basis.imag], 1), np.stack([-basis.imag, basis.real], 1)], 3
    )
    embedding = sparse.csr_matrix(blocks.reshape(len(basis), -1).T)
    coordinates = cp.Variable(len(basis))
    embedded = cp.reshape(embedding @ coordinates, (2 * size, 2 * size), order="C")
    return coordinates, embedded >> 0
