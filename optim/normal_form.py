r"""Whiten, scale and shrink a problem; and the exact way back.

With :math:`a_k = \sqrt{P_k} h_k^H / \sigma`, :math:`x = \sigma m / \|\omega\|` and
:math:`w = \omega / \|\omega\|` the transmit scalars drop out and the error becomes

.. math:: \mathrm{MSE} / \|\omega\|^2 = f(x) = \|x\|^2 + \sum_k (w_k - |a_k x|)_+^2 \in (0, 1]

so path gains, powers and noise enter only as signal-to-noise ratios. A beamformer outside the span of the
channels only adds noise: with fewer devices than antennas, a thin QR leaves K dimensions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim.problem import AirCompProblem


@dataclass(frozen=True, eq=False)
class NormalForm:
    """A flat batch of `B` problems as rows ``a_k`` and targets ``w_k``; `n` is the smaller of K and N."""

    rows: Complex[np.ndarray, "B K n"]
    targets: Float[np.ndarray, "B K"]
    basis: Complex[np.ndarray, "B N n"] | None
    target_norm: Float[np.ndarray, "B"]
    deviation: Float[np.ndarray, "B"]

    @property
    def reachable(self) -> Bool[np.ndarray, "B K"]:
        """Devices whose signal can arrive at all; the others add their squared target to every error."""
        return np.asarray((self.rows != 0).any(axis=-1))

    @property
    def silent(self) -> Bool[np.ndarray, "B"]:
        """Problems in which nobody with a target can be heard."""
        return np.asarray(~(self.reachable & (self.targets > 0)).any(axis=-1))

    def invert(self, point: Complex[np.ndarray, "B n"]) -> Complex[np.ndarray, "B N"]:
        """The receive beamformer ``m`` that belongs to ``x``."""
        full = point if self.basis is None else (self.basis @ point[..., None])[..., 0]
        return full * (self.target_norm / self.deviation)[:, None]

    def project(self, beamformer: Complex[np.ndarray, "B N"]) -> Complex[np.ndarray, "B n"]:
        """The ``x`` that belongs to ``m``, less what no channel can excite."""
        scaled = (
            beamformer * (self.deviation / np.where(self.target_norm > 0, self.target_norm, 1.0))[:, None]
        )
        if self.basis is None:
            return scaled
        return (np.swapaxes(self.basis.conj(), -1, -2) @ scaled[..., None])[..., 0]


def apply(problem: AirCompProblem) -> NormalForm:
    """The normal form of a problem, its batch axes flattened into one."""
    flat = problem.flattened()
    # kappa |c - w|^2 + sigma^2 |m|^2 is kappa times the plain problem with sigma^2 / kappa.
    deviation = np.sqrt(flat.noise_power_w / flat.misalignment_weight)
    # Two divisions: the quotient of amplitude and deviation may leave the floats before h comes in.
    whitened = flat.channel.conj() / deviation[:, None, None]
    rows, basis = shrink(whitened * np.sqrt(flat.power_budget_w)[..., None])
    norm = np.linalg.norm(flat.target_gains, axis=-1)
    targets = flat.target_gains / np.where(norm > 0, norm, 1.0)[:, None]
    return NormalForm(rows, targets, basis, norm, deviation)


def shrink(
    rows: Complex[np.ndarray, "*batch K N"],
) -> tuple[Complex[np.ndarray, "*batch K n"], Complex[np.ndarray, "*batch N n"] | None]:
    """Rows in the smaller of K and N dimensions, and the basis that leads back."""
    num_devices, num_antennas = rows.shape[-2:]
    if num_devices >= num_antennas:
        return rows, None
    basis, triangle = np.linalg.qr(np.swapaxes(rows.conj(), -1, -2))  # A^H = Q R, hence A x = R^H (Q^H x)
    return np.swapaxes(triangle.conj(), -1, -2), basis
