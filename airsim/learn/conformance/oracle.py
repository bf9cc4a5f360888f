"""Every definition once more, in plain loops over devices, dense and in double precision.

Nothing here knows the operators, torch or padding: a device is its factors at its own rank, its weight and
its scale. Slow on purpose; other projects can hold their own code against it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Matrices = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Upload:
    """One device after training: ``g B A`` in every layer, and the share of its data."""

    weight: float
    scale: float
    b: Matrices
    a: Matrices

    def update(self, layer: str) -> Float[np.ndarray, "O I"]:
        """``g_k B_k A_k``, component by component."""
        total = np.zeros((self.b[layer].shape[0], self.a[layer].shape[1]))
        for i in range(self.a[layer].shape[0]):
            total += self.scale * np.outer(self.b[layer][:, i], self.a[layer][i])
        return total


def mean_update(devices: Sequence[Upload], layer: str) -> Float[np.ndarray, "O I"]:
    """The ideal: ``sum p_k g_k B_k A_k``."""
    total = np.zeros_like(devices[0].update(layer))
    for device in devices:
        total += device.weight * device.update(layer)
    return total


def factor_means(devices: Sequence[Upload], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """``sum p_k B_k`` and ``sum p_k A_k`` of devices of one rank."""
    b, a = np.zeros_like(devices[0].b[layer]), np.zeros_like(devices[0].a[layer])
    for device in devices:
        b += device.weight * device.b[layer]
        a += device.weight * device.a[layer]
    return b, a


def padded_means(
    devices: Sequence[Upload], layer: str, rank: int, weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Component by component, the weighted sums of ``g_k B_k`` and ``A_k``; a missing one counts as 0."""
    b = np.zeros((devices[0].b[layer].shape[0], rank))
    a = np.zeros((rank, devices[0].a[layer].shape[1]))
    for device, weight in zip(devices, weights, strict=True):
        for i in range(device.a[layer].shape[0]):
            b[:, i] += weight * device.scale * device.b[layer][:, i]
            a[i] += weight * device.a[layer][i]
    return b, a


def means_of_present(
    devices: Sequence[Upload], layer: str, old: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Component by component, the means of ``g_k B_k`` and ``A_k`` over those that have it, else the old."""
    b, a = old[0].copy(), old[1].copy()
    for i in range(a.shape[0]):
        present = [device for device in devices if device.a[layer].shape[0] > i]
        share = sum(device.weight for device in present)
        if present:
            b[:, i] = sum(device.weight * device.scale * device.b[layer][:, i] for device in present) / share
            a[i] = sum(device.weight * device.a[layer][i] for device in present) / share
    return b, a


def norm_weights(devices: Sequence[Upload]) -> list[float]:
    """HetLoRA's ``q_k``: norms of ``B_k A_k`` over all layers, without scale and data size."""
    norms = []
    for device in devices:
        square = sum(float(((device.b[layer] @ device.a[layer]) ** 2).sum()) for layer in device.b)
        norms.append(square**0.5)
    return [norm / sum(norms) for norm in norms]


def tail_pull(
    device: Upload, layer: str, kept_share: float, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """HetLoRA's penalty on one layer, differentiated entry by entry with respect to B and A.

    The penalty is ``strength ||tail of B|| ||tail of A||``, with the tail beyond ``floor(kept_share r)``.
    """
    b, a = device.b[layer], device.a[layer]
    pull_b, pull_a = np.zeros_like(b), np.zeros_like(a)
    tail = range(max(1, int(kept_share * a.shape[0])), a.shape[0])
    size_b = sum(float(b[o, i]) ** 2 for i in tail for o in range(b.shape[0])) ** 0.5
    size_a = sum(float(a[i, j]) ** 2 for i in tail for j in range(a.shape[1])) ** 0.5
    for i in tail:
        pull_b[:, i] = strength * size_a * b[:, i] / size_b
        pull_a[i] = strength * size_b * a[i] / size_a
    return pull_b, pull_a


def best_approximation(matrix: Float[np.ndarray, "O I"], rank: int) -> Float[np.ndarray, "O I"]:
    """The nearest matrix of this rank: projected on its leading right singular vectors [Eckart36]."""
    _, vectors = np.linalg.eigh(matrix.T @ matrix)
    leading = vectors[:, ::-1][:, :rank]
    return matrix @ leading @ leading.T


def tail_norm(matrix: Float[np.ndarray, "O I"], rank: int) -> float:
    """Its least distance from this rank: the root of the sum of the other squared singular values."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(np.sqrt((values[rank:] ** 2).sum()))


def corrected_factor(devices: Sequence[Upload], layer: str, strength: float) -> np.ndarray:
    """LoRA-FAIR with the squared distance: least squares row by row, the penalty as extra equations."""
    b, a = factor_means(devices, layer)
    missing = mean_update(devices, layer) / devices[0].scale - b @ a
    system = np.concatenate((a.T, strength**0.5 * np.eye(a.shape[0])))
    corrected = b.copy()
    for row in range(b.shape[0]):
        right = np.concatenate((missing[row], np.zeros(a.shape[0])))
        corrected[row] += np.linalg.lstsq(system, right, rcond=None)[0]
    return corrected


def descended_factor(
    devices: Sequence[Upload], layer: str, strength: float, steps: int, learning_rate: float
) -> np.ndarray:
    """LoRA-FAIR with the cosine: gradient descent on ``1 - cos + lambda ||dB||^2``."""
    b, a = factor_means(devices, layer)
    ideal = mean_update(devices, layer) / devices[0].scale
    step = np.zeros_like(b)
    for _ in range(steps):
        product = (b + step) @ a
        size, target = np.sqrt((product**2).sum()), np.sqrt((ideal**2).sum())
        cosine = (ideal * product).sum() / (size * target)
        slope = -ideal / (size * target) + cosine * product / size**2
        step = step - learning_rate * (slope @ a.T + 2 * strength * step)
    return b + step


def selected_changes(
    changes: Sequence[Matrices], fixed: Sequence[Matrices], budgets: Sequence[int], weights: Sequence[float]
) -> dict[str, np.ndarray]:
    """LoRA-A2: per layer, the weighted sum of the changes of each device's most important components.

    Components are rows of `changes` and of `fixed`; a device's budget times the layers may be sent.
    """
    total = {layer: np.zeros_like(change) for layer, change in changes[0].items()}
    for device, budget in enumerate(budgets):
        scores: list[tuple[float, int, str, int]] = []
        for layer, change in changes[device].items():
            for i in range(change.shape[0]):
                size = np.sqrt((change[i] ** 2).sum()) * np.sqrt((fixed[device][layer][i] ** 2).sum())
                scores.append((-size, len(scores), layer, i))
        for _, _, layer, i in sorted(scores)[: budget * len(changes[device])]:
            total[layer][i] += weights[device] * changes[device][layer][i]
    return total


def cluster(devices: Sequence[Upload], num_clusters: int) -> list[set[int]]:
    """FedInc in our reading: join the groups of largest mean cosine between members' dense updates."""
    flat = [np.concatenate([device.update(layer).ravel() for layer in device.b]) for device in devices]
    units = [vector / np.sqrt(vector @ vector) for vector in flat]
    groups = [{k} for k in range(len(devices))]
    while len(groups) > num_clusters:
        best, pair = -np.inf, (0, 0)
        for one in range(len(groups)):
            for two in range(one + 1, len(groups)):
                cosines = [float(units[j] @ units[k]) for j in groups[one] for k in groups[two]]
                if sum(cosines) / len(cosines) > best:
                    best, pair = sum(cosines) / len(cosines), (one, two)
        groups[pair[0]] |= groups.pop(pair[1])
    return groups


def vector_mean(vectors: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """``sum p_k x_k``."""
    total = np.zeros_like(vectors[0])
    for vector, weight in zip(vectors, weights, strict=True):
        total += weight * vector
    return total
