r"""Whiten, scale, sort, rotate and shrink a problem; and the exact way back.

With :math:`a_k = \sqrt{\kappa P_k} h_k^H / \sigma`, :math:`x = \sigma m / (\sqrt\kappa \|\omega\|)` and
:math:`w = \omega / \|\omega\|` the transmit scalars drop out and the objective becomes

.. math:: \kappa \|\omega\|^2 \Big[ \|x\|^2 + \sum_k (w_k - \|a_k x\|)_+^2 \Big]
          + \kappa \sum_{k\ \text{lost}} \omega_k^2

so path gains, powers and noise enter only as signal-to-noise ratios. A device with several antennas has one
row for each. The form is canonical: devices stand in an order that only their gains and targets decide, and
the coordinates of x are those of a QR decomposition of the first of them, with fixed phases. Renaming
devices, rotating antennas (the receiver's, or a device's own) or phases, and scaling channel with noise
therefore change nothing, sampled starts included. A beamformer outside the span of the channels only adds
noise: with fewer rows than antennas as many dimensions remain. Devices without target or channel stand last,
and those that nobody needs are dropped.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from optim.problem import AirCompProblem

# Amplitude to noise below which a row is no channel: what it could gain, its square, is far below rounding.
INAUDIBLE = 1e-30
# And beyond which its powers would leave the floats.
STRONGEST = 1e60


@dataclass(frozen=True, eq=False)
class NormalForm:
    """A flat batch of `B` problems: rows ``a_k``, ``T = device_antennas`` per device, and targets ``w_k``.

    Columns of `order` name the devices that stand in the form; zero rows with zero targets pad problems that
    have fewer. `lost` is what devices that cannot be heard add to every objective.
    """

    rows: Complex[np.ndarray, "B KT n"]
    targets: Float[np.ndarray, "B K"]
    device_antennas: int
    order: Int[np.ndarray, "B K"]
    basis: Complex[np.ndarray, "B N n"]
    target_norm: Float[np.ndarray, "B"]
    deviation: Float[np.ndarray, "B"]
    weight: Float[np.ndarray, "B"]
    lost: Float[np.ndarray, "B"]

    @property
    def silent(self) -> Bool[np.ndarray, "B"]:
        """Problems in which nobody with a target can be heard."""
        return np.asarray(~(self.targets > 0).any(axis=-1))

    @property
    def scale(self) -> Float[np.ndarray, "B"]:
        """The objective of silence, less what is lost: ``kappa |omega|^2``."""
        return self.weight * self.target_norm**2

    def objective(self, error: Float[np.ndarray, "*S B"]) -> Float[np.ndarray, "*S B"]:
        """Normal-form errors in the problem's own units."""
        return error * self.scale + self.lost

    def arranged(self, values: Shaped[np.ndarray, "*C B _"]) -> Shaped[np.ndarray, "*C B K"]:
        """Numbers per device of the problem in the order of the form."""
        return np.take_along_axis(
            values, np.broadcast_to(self.order, (*values.shape[:-1], self.order.shape[-1])), -1
        )

    def invert(self, point: Complex[np.ndarray, "B n"]) -> Complex[np.ndarray, "B N"]:
        """The receive beamformer ``m`` that belongs to ``x``."""
        return (self.basis @ point[..., None])[..., 0] * (self.target_norm / self.deviation)[:, None]

    def project(self, beamformer: Complex[np.ndarray, "B N"]) -> Complex[np.ndarray, "B n"]:
        """The ``x`` that belongs to ``m``, less what no channel can excite."""
        unit = self.deviation / np.where(self.target_norm > 0, self.target_norm, 1.0)
        return (adjoint(self.basis) @ (beamformer * unit[:, None])[..., None])[..., 0]


def apply(problem: AirCompProblem) -> NormalForm:
    """The normal form of a problem, its batch axes flattened into one."""
    flat = problem.flattened()
    # kappa |c - w|^2 + sigma^2 |m|^2 is kappa times the plain problem with sigma^2 / kappa.
    deviation = np.sqrt(flat.noise_power_w / flat.misalignment_weight)
    rows = _whitened(flat, deviation)  # B K T N
    heard = (rows != 0).any(axis=(-2, -1))
    wanted = np.where(heard, flat.target_gains, 0.0)
    lost = flat.misalignment_weight * (np.where(heard, 0.0, flat.target_gains) ** 2).sum(axis=-1)
    norm = np.linalg.norm(wanted, axis=-1)
    targets = wanted / np.where(norm > 0, norm, 1.0)[:, None]
    needed = max(1, int((targets > 0).sum(axis=-1).max(initial=0)))
    order = canonical_order(rows, targets)[:, :needed]
    targets = np.take_along_axis(targets, order, axis=-1)
    rows = np.take_along_axis(rows, order[:, :, None, None], axis=1)
    rows = np.where((targets > 0)[:, :, None, None], rows, 0.0)
    if flat.device_antennas > 1:
        rows = _with_canonical_antennas(rows, targets)
    rows, basis = canonical_coordinates(rows.reshape(len(rows), -1, rows.shape[-1]), targets)
    return NormalForm(
        rows, targets, flat.device_antennas, order, basis, norm, deviation, flat.misalignment_weight, lost
    )


def adjoint(matrix: Complex[np.ndarray, "*batch i j"]) -> Complex[np.ndarray, "*batch j i"]:
    """Conjugate transpose of each matrix."""
    return np.swapaxes(matrix.conj(), -1, -2)


def shrink(
    rows: Complex[np.ndarray, "*batch K N"],
) -> tuple[Complex[np.ndarray, "*batch K n"], Complex[np.ndarray, "*batch N n"] | None]:
    """Rows in the smaller of K and N dimensions, and the basis that leads back."""
    num_devices, num_antennas = rows.shape[-2:]
    if num_devices >= num_antennas:
        return rows, None
    basis, triangle = np.linalg.qr(np.swapaxes(rows.conj(), -1, -2))  # A^H = Q R, hence A x = R^H (Q^H x)
    return np.swapaxes(triangle.conj(), -1, -2), basis


def _whitened(flat: AirCompProblem, deviation: Float[np.ndarray, "B"]) -> Complex[np.ndarray, "B K T N"]:
    # Two steps: the quotient of amplitude and deviation may leave the floats before h comes in.
    rows = np.swapaxes(flat.stacked_channel, -1, -2).conj()
    rows /= deviation[:, None, None, None]
    rows *= np.sqrt(flat.power_budget_w)[..., None, None]
    return audible(rows)


def audible(rows: Complex[np.ndarray, "*batch n"]) -> Complex[np.ndarray, "*batch n"]:
    """The rows, with zeros for those too weak to matter.

    Raises:
        ValueError: a device is stronger than numbers can be.
    """
    size = np.abs(rows).max(axis=-1, initial=0.0, keepdims=True)
    if not (size <= STRONGEST).all():
        raise ValueError(
            f"channel: a device arrives {size.max():.1e} times the noise's amplitude at full power, and "
            f"beyond {STRONGEST:.0e} nothing can be computed: check the units of channel, power and "
            "noise_power_w"
        )
    return np.where(size >= INAUDIBLE, rows, 0.0)


def canonical_order(
    rows: Complex[np.ndarray, "B K T N"], targets: Float[np.ndarray, "B K"]
) -> Int[np.ndarray, "B K"]:
    """Devices by ``(1 + w_k) a_k (sum_j w_j a_j^H a_j) a_k^H``, falling; those without target after them."""
    size = np.abs(rows).max(axis=(1, 2, 3), initial=0.0)
    unit = rows / np.where(size > 0, size, 1.0)[:, None, None, None]
    weighted = (unit * np.sqrt(targets)[..., None, None]).reshape(len(rows), -1, rows.shape[-1])
    spread = unit @ (adjoint(weighted) @ weighted)[:, None]
    spread *= unit.conj()
    key = (1 + targets) * spread.real.sum(axis=(-2, -1))
    return np.lexsort((-key, targets <= 0), axis=-1)


def _with_canonical_antennas(
    rows: Complex[np.ndarray, "B K T N"], targets: Float[np.ndarray, "B K"]
) -> Complex[np.ndarray, "B K T N"]:
    """Each device's rows along the eigenvectors of ``A_k (sum_j w_j A_j^H A_j) A_k^H``, largest first."""
    size = np.abs(rows).max(axis=(1, 2, 3), initial=0.0)
    unit = rows / np.where(size > 0, size, 1.0)[:, None, None, None]
    weighted = (unit * np.sqrt(targets)[..., None, None]).reshape(len(rows), -1, rows.shape[-1])
    modes = np.linalg.eigh(unit @ (adjoint(weighted) @ weighted)[:, None] @ adjoint(unit))[1]
    return adjoint(modes[..., ::-1]) @ rows


def canonical_coordinates(
    rows: Complex[np.ndarray, "B KT N"], targets: Float[np.ndarray, "B K"]
) -> tuple[Complex[np.ndarray, "B KT n"], Complex[np.ndarray, "B N n"]]:
    """Coordinates along the Gram-Schmidt basis of the first rows, phases tied to its first vector."""
    dimension = min(rows.shape[-2:])
    basis = np.linalg.qr(adjoint(rows[:, :dimension]))[0]  # N n
    rows = rows @ basis
    weights = np.repeat(targets, rows.shape[-2] // max(targets.shape[-1], 1), axis=-1)
    leading = weights * rows[..., 0] if dimension else weights
    ties = (adjoint(rows) @ leading[..., None])[..., 0]
    size = np.abs(ties)
    phases = np.where(size > 0, ties, 1.0) / np.where(size > 0, size, 1.0)
    return rows * phases[:, None, :], basis * phases[:, None, :]
