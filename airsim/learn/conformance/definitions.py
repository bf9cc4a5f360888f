"""What every device must compute with after a round, method by method, as the oracle has it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from airsim.learn.conformance import oracle
from airsim.learn.conformance.oracle import Upload

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Facts:
    """A round as the oracle sees it: base, last broadcast, and what every device uploads and keeps.

    `devices` are the participants in the order of `present`; `own` are all devices after training. `scale` is
    that of the common adapter, `scales` and `ranks` those of all devices. `live_b` says which factor moves in
    alternation.
    """

    base: Mapping[str, Float[np.ndarray, "O_ I_"]]
    common: Mapping[str, Pair]
    devices: Sequence[Upload]
    present: Sequence[int]
    own: Sequence[Upload]
    ranks: Sequence[int]
    scales: Sequence[float]
    scale: float
    live_b: bool
    first_round: bool

    @property
    def weights(self) -> list[float]:
        """Shares of the participants."""
        return [device.weight for device in self.devices]

    @property
    def rank(self) -> int:
        """The rank of the common adapter."""
        return next(iter(self.common.values()))[1].shape[0]


# The gradient of what a method adds to a device's local loss, with respect to B and A: device, layer.
LocalTerm = Callable[[Upload, str], Pair]
# The weight matrix with which a device computes after the round: facts, device, layer.
Model = Callable[[Facts, int, str], np.ndarray]


def factor_averaging(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0 + g P Q``."""
    b, a = oracle.factor_means(facts.devices, layer)
    return facts.base[layer] + facts.scales[device] * b @ a


def zero_padding(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the first ``r_k`` components of the padded means."""
    return _first(facts, device, layer, oracle.padded_means(facts.devices, layer, facts.rank, facts.weights))


def hetlora(facts: Facts, device: int, layer: str) -> np.ndarray:
    """The same with weights by norm."""
    weights = oracle.norm_weights(facts.devices)
    return _first(facts, device, layer, oracle.padded_means(facts.devices, layer, facts.rank, weights))


def rbla(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the first ``r_k`` components of the means over those present."""
    b, a = facts.common[layer]
    return _first(facts, device, layer, oracle.means_of_present(facts.devices, layer, (facts.scale * b, a)))


def product_averaging(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the best approximation of the mean product of the device's rank."""
    mean = oracle.mean_update(facts.devices, layer)
    return facts.base[layer] + oracle.best_approximation(mean, facts.ranks[device])


def base_dropping(facts: Facts, device: int, layer: str) -> np.ndarray:
    """In the first round the best approximation of base plus mean product, with no base beside it."""
    if not facts.first_round:
        return product_averaging(facts, device, layer)
    full = facts.base[layer] + oracle.mean_update(facts.devices, layer)
    return oracle.best_approximation(full, facts.ranks[device])


def ideal(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the mean product: what an exact method gives."""
    return facts.base[layer] + oracle.mean_update(facts.devices, layer)


def personal_b(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0 + g_k B_k A`` with the mean A and the device's own B."""
    _, a = oracle.means_of_present(facts.devices, layer, facts.common[layer])
    own = facts.own[device]
    return facts.base[layer] + own.scale * own.b[layer] @ a[: facts.ranks[device]]


def fair_squared(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0 + g (B + dB) A`` with the correction in least squares."""
    _, a = oracle.factor_means(facts.devices, layer)
    b = oracle.corrected_factor(facts.devices, layer, FAIR_STRENGTH)
    return facts.base[layer] + facts.scale * b @ a


def fair_cosine(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0 + g (B + dB) A`` with the correction by descent."""
    _, a = oracle.factor_means(facts.devices, layer)
    b = oracle.descended_factor(facts.devices, layer, FAIR_STRENGTH, FAIR_STEPS, FAIR_RATE)
    return facts.base[layer] + facts.scale * b @ a


def fresh_basis(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the mean of the free factor times the basis, column by column over those present."""
    b, a = facts.common[layer]
    zero = (np.zeros_like(b), np.zeros_like(a))
    mean_b, mean_a = oracle.means_of_present(facts.devices, layer, zero)
    return facts.base[layer] + mean_b @ mean_a


def rank_selection(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0`` and the common adapter moved by the mean of what was selected."""
    changes, fixed = [], []
    for upload in facts.devices:
        live, dead = (upload.b, upload.a) if facts.live_b else (upload.a, upload.b)
        rows = {name: _rows(live[name], facts.live_b) for name in live}
        old = {
            name: _rows(pair[0 if facts.live_b else 1], facts.live_b) for name, pair in facts.common.items()
        }
        changes.append({name: rows[name] - old[name] for name in rows})
        fixed.append({name: _rows(dead[name], not facts.live_b) for name in dead})
    budgets = [BUDGETS[k] for k in facts.present]
    total = oracle.selected_changes(changes, fixed, budgets, facts.weights)[layer]
    b, a = facts.common[layer]
    moved = (b + total.T) @ a if facts.live_b else b @ (a + total)
    return facts.base[layer] + facts.scale * moved


def clustered(facts: Facts, device: int, layer: str) -> np.ndarray:
    """``W_0 + g`` times the mean factors of the device's cluster; absent devices keep the last broadcast."""
    b, a = facts.common[layer]
    if device in facts.present:
        row = list(facts.present).index(device)
        group = next(g for g in oracle.cluster(facts.devices, NUM_CLUSTERS) if row in g)
        members = [facts.devices[k] for k in sorted(group)]
        shares = [member.weight / sum(other.weight for other in members) for member in members]
        b = oracle.vector_mean([member.b[layer] for member in members], shares)
        a = oracle.vector_mean([member.a[layer] for member in members], shares)
    return facts.base[layer] + facts.scale * b @ a


def no_pull(device: Upload, layer: str) -> Pair:
    """Nothing is added to the local loss."""
    return np.zeros_like(device.b[layer]), np.zeros_like(device.a[layer])


def tail_decay(device: Upload, layer: str) -> Pair:
    """HetLoRA's penalty on the tails."""
    return oracle.tail_pull(device, layer, KEPT_SHARE, TAIL_WEIGHT)


FAIR_STRENGTH = 0.05
FAIR_STEPS = 40
FAIR_RATE = 0.5
NUM_CLUSTERS = 2
BUDGETS = (1, 2, 2, 3, 1)
KEPT_SHARE = 0.99
TAIL_WEIGHT = 0.3


def _first(facts: Facts, device: int, layer: str, means: Pair) -> np.ndarray:
    b, a = means
    rank = facts.ranks[device]
    return facts.base[layer] + b[:, :rank] @ a[:rank]


def _rows(factor: np.ndarray, is_b: bool) -> np.ndarray:
    return factor.T if is_b else factor
