"""The tightest multipliers of any problem in normal form, however strong and however large."""

import numpy as np
from jaxtyping import Complex, Float

from optim.interior_point import tight_multipliers
from optim.normal_form import NormalForm

# Amplitude ratio to the noise beyond which the design no longer changes (relative change 1e-10): stronger
# problems are designed at this one, where the numbers keep their digits.
STRONGEST = 1e5
# Devices beyond which the bound takes only the hardest into account: its K x K systems would not fit.
LARGEST_SYSTEM = 1200


def tempering(form: NormalForm) -> Float[np.ndarray, "B"]:
    """Factors that weaken the rows of problems in which even the weakest device drowns all noise."""
    strength = np.sqrt((np.abs(form.rows) ** 2).reshape(*form.targets.shape, -1).sum(axis=-1))
    weakest = np.where(form.targets > 0, strength, np.inf).min(axis=-1, initial=np.inf)
    return np.where(np.isfinite(weakest), STRONGEST / np.maximum(weakest, STRONGEST), 1.0)


def relaxed(
    rows: Complex[np.ndarray, "B KT n"], targets: Float[np.ndarray, "B K"], tolerance: float
) -> tuple[Float[np.ndarray, "B K"], Complex[np.ndarray, "B n n"]]:
    """Multipliers and X of the relaxation, of the devices hardest to hear if there are too many for a system.

    The others then have the multiplier 0, as strong devices have anyway: valid, and the looser the more of
    them would send at full power.
    """
    if targets.shape[-1] <= LARGEST_SYSTEM:
        return tight_multipliers(rows, targets, tolerance)
    by_device = rows.reshape(*targets.shape, -1, rows.shape[-1])
    strength = (by_device.real**2).sum(axis=(-2, -1)) + (by_device.imag**2).sum(axis=(-2, -1))
    quality = np.where(targets > 0, strength / np.where(targets > 0, targets, 1.0) ** 2, np.inf)
    hardest = np.argpartition(quality, LARGEST_SYSTEM, axis=-1)[:, :LARGEST_SYSTEM]
    chosen = np.take_along_axis(by_device, hardest[..., None, None], axis=1)
    chosen_rows = chosen.reshape(len(rows), -1, rows.shape[-1])
    some, lift = tight_multipliers(chosen_rows, np.take_along_axis(targets, hardest, axis=-1), tolerance)
    multipliers = np.zeros(targets.shape)
    np.put_along_axis(multipliers, hardest, some, axis=-1)
    return multipliers, lift
