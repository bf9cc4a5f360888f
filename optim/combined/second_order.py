r"""A quadratic model of the reduced objective that knows where devices begin to lose signal.

A device whose energy reaches loses nothing; one whose energy falls short by
:math:`\delta = \sum_j \alpha_j w_j^2 / z_j^2 - \bar P` loses about :math:`\delta_+^2 / (2 s)` with :math:`s =
\sum_j a_j^2 / l_j`, a hinge. Beyond the kink implicit differentiation of the power split gives, for phases
below their peak,

.. math:: \nabla_z^2 F_k = \mathrm{diag}\Big( 2 \beta_j \tfrac{b_j w_j}{z_j} (1 - r_j)(4 r_j - 1) \Big)
          + t t^T, \qquad r_j = \frac{z_j b_j}{w_j},\ t_j = \frac{2 \alpha_j b_j^2 (2 r_j - 1)}{z_j \sqrt s}

(:math:`\beta_j = \alpha_j \rho_j`, :math:`a_j = 2 \alpha_j b_j`, :math:`l_j = 2 \beta_j z_j w_j / b_j`), in
the directions that change moduli :math:`z_j`, and :math:`\nabla_j F_k / z_j < 0` in those that turn phases.
Interference enters with its powers held.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Complex, Float

from optim.combined.power_split import best_split
from optim.combined.reduced import ReducedObjective

# Misalignment below this part of its target is rounding; a power this close to its peak is at it.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class DeviceModel:
    """Derivatives of every device's loss in the moduli of what arrives."""

    slope: Float[np.ndarray, "S J K"]  # dF_k/dz_j / z_j
    radial: Float[np.ndarray, "S J K"]
    exchange: Float[np.ndarray, "S J K"]  # t
    excess: Float[np.ndarray, "S K"]  # delta / sqrt(s)
    losing: Bool[np.ndarray, "S K"]
    hinged: Bool[np.ndarray, "S K"]  # whose loss is a hinge of its energy

    def kept(self, which: Bool[np.ndarray, "S"]) -> "DeviceModel":
        """The model at some of the points."""
        return DeviceModel(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class SecondOrderModel:
    """The directions of the model as real rows, with the devices' derivatives along them."""

    devices: DeviceModel
    moduli: Float[np.ndarray, "S J K"]
    radial_rows: Float[np.ndarray, "S M d"]
    turning_rows: Float[np.ndarray, "S M d"]
    energy_rows: Float[np.ndarray, "S K d"]
    curvature: Float[np.ndarray, "S d d"]  # of noise, interference and common phases
    gradient: Float[np.ndarray, "S d"]  # of noise and interference

    def kept(self, which: Bool[np.ndarray, "S"]) -> "SecondOrderModel":
        """The model at some of the points."""
        arrays = (getattr(self, field.name)[which] for field in fields(self)[1:])
        return SecondOrderModel(self.devices.kept(which), *arrays)


def second_order(objective: ReducedObjective, points: Complex[np.ndarray, "S D"]) -> SecondOrderModel:
    """The model at each point of a batch."""
    arrived, leaks = objective.arriving(points), objective.leaks(points)
    moduli = np.abs(arrived)
    power = best_split(objective.form.budgets, moduli, leaks)
    devices = _device_model(objective, moduli, power, leaks)
    nonzero = moduli > 0
    turns = np.where(nonzero, arrived.conj(), 1.0) / np.where(nonzero, moduli, 1.0)
    rows = turns[..., None] * objective.rows
    radial = np.concatenate([rows.real, -rows.imag], axis=-1)  # S J K 2D
    turning = np.concatenate([rows.imag, rows.real], axis=-1)
    energy = -(devices.exchange[..., None] * radial).sum(axis=1)
    flat = (len(points), -1, radial.shape[-1])
    curvature, gradient = _smooth_part(objective, points, objective.interference(power))
    return SecondOrderModel(
        devices, moduli, radial.reshape(flat), turning.reshape(flat), energy, curvature, gradient
    )


def _device_model(
    objective: ReducedObjective,
    moduli: Float[np.ndarray, "S J K"],
    power: Float[np.ndarray, "S J K"],
    leaks: Float[np.ndarray, "S J K"] | None,
) -> DeviceModel:
    budgets, beta = objective.form.budgets, objective.form.device_weights
    active = (moduli > 0) & (budgets.targets > 0) & (power > 0) & (beta > 0)
    z, w = np.where(active, moduli, 1.0), np.where(active, budgets.targets, 1.0)
    p = np.where(active, power, 1.0)
    b, weight = np.sqrt(p), np.where(active, beta, 1.0)
    reached = b * z / w
    missing = active & (reached < 1 - ROUNDING)
    held = active & (p >= budgets.peak * (1 - ROUNDING))
    free = active & ~held
    bent = 2 * weight * b * w / z * (1 - reached) * (4 * reached - 1)
    give = np.where(free, 2 * budgets.shares**2 * p * b / (weight * z * w), 0.0).sum(axis=-2)
    root = np.sqrt(np.where(give > 0, give, 1.0))
    exchange = 2 * budgets.shares * p * (2 * reached - 1) / (z * root[:, None])
    wanted = np.where(active, np.minimum((w / z) ** 2, budgets.peak), 0.0)
    if leaks is not None:  # power costs others something: only what is spent beyond that is priced
        price = budgets.priorities * z * w * (1 - reached) / b - leaks
        binding = (free & (price > ROUNDING * leaks)).any(axis=-2) & (give > 0)
        excess = np.where(binding, np.inf, -np.inf)  # no kink
        losing = np.ones_like(binding)
    else:
        binding = give > 0
        excess = ((budgets.shares * wanted).sum(axis=-2) - budgets.average) / root
        losing = missing.any(axis=-2)
    return DeviceModel(
        slope=np.where(active, -2 * beta * b * w * np.maximum(1 - reached, 0.0) / z, 0.0),
        radial=np.where(missing, np.where(held, 2 * beta * p, bent), 0.0),
        exchange=np.where(free & binding[:, None], exchange, 0.0),
        excess=excess,
        losing=losing,
        hinged=binding,
    )


def _smooth_part(
    objective: ReducedObjective,
    points: Complex[np.ndarray, "S D"],
    interference: Complex[np.ndarray, "S D D"] | None,
) -> tuple[Float[np.ndarray, "S d d"], Float[np.ndarray, "S d"]]:
    """Noise and interference, and a weight on turning a whole receiver, which changes nothing."""
    weights = np.tile(objective.weights, 2)
    gradient = 2 * weights * np.concatenate([points.real, points.imag], axis=-1)
    # Coordinates without weight stay where they are.
    diagonal = np.where(weights > 0, 2 * weights, 1.0)
    turned = np.zeros((len(points), len(objective.receivers), len(weights)))
    for index, span in enumerate(objective.receivers):
        norm = np.linalg.norm(points[:, span], axis=-1)
        unit = 1j * points[:, span] / np.where(norm > 0, norm, 1.0)[:, None]
        root = np.sqrt(2 * objective.weights[span])
        turned[:, index, span] = unit.real * root
        turned[:, index, span.start + objective.dimension : span.stop + objective.dimension] = (
            unit.imag * root
        )
    curvature = np.swapaxes(turned, -1, -2) @ turned + np.diag(diagonal)
    if interference is not None:
        leaked = (interference @ points[..., None])[..., 0]
        gradient = gradient + 2 * np.concatenate([leaked.real, leaked.imag], axis=-1)
        q = interference
        curvature = curvature + 2 * np.block([[q.real, -q.imag], [q.imag, q.real]])
    return curvature, gradient
