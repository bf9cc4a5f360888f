"""Complex channel uses for one bit of every device, by way of access."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from optim.multiple_access import capacities, subset_table
from optim.normal_form import NormalForm
from optim.reference import require_few, snr_of
from optim.shares import equal_level_shares, equal_rate_level


def tdma_uses(form: NormalForm) -> Float[np.ndarray, "B"]:
    r"""One after the other: :math:`\sum_k 1 / \log_2(1 + s_k)`; a fraction of the energy is spent."""
    rates = np.log1p(snr_of(form)) / np.log(2)
    return np.where(rates > 0, 1 / np.where(rates > 0, rates, 1.0), 0.0).sum(axis=-1)


def ofdma_uses(form: NormalForm) -> Float[np.ndarray, "B"]:
    r"""Side by side: :math:`\min_\theta \max_k 1 / (\theta_k \log_2(1 + s_k / \theta_k))`."""
    snr, needed = snr_of(form), form.targets > 0
    shares = equal_level_shares(equal_rate_level(snr), needed)
    rates = equal_rate_level(snr)(np.where(needed, shares, 1.0))
    slowest = np.where(needed, rates, np.inf).min(axis=-1)
    return np.log(2) / slowest


def uncoordinated_uses(form: NormalForm) -> Float[np.ndarray, "B"]:
    r"""What no code for independent messages undercuts: :math:`\max_S |S| / C(S)`."""
    require_few(form)
    members = subset_table(form.targets.shape[-1])
    sizes = (form.targets > 0) @ members.T  # B subsets: a row that pads the batch sends nothing
    limits = np.array([capacities(rows) for rows in form.rows]).reshape(sizes.shape)
    per_bit = np.divide(sizes, limits, out=np.full(limits.shape, np.inf), where=limits > 0)
    return np.where(sizes > 0, per_bit, 0.0).max(axis=-1)


USES: dict[str, Callable[[NormalForm], Float[np.ndarray, "B"]]] = {
    "tdma": tdma_uses,
    "ofdma": ofdma_uses,
    "uncoordinated": uncoordinated_uses,
}
