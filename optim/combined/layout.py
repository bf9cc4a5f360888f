"""The transmissions that matter as one vector, and the way to stacks and to devices."""

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from optim.combined.form import CombinedForm
from optim.combined.power_split import nonzero

# Transmissions beyond which the relaxation takes only the hardest into account: its systems are of their size
# squared, and with so many devices per antenna its bound is far from every design anyway.
LARGEST_SYSTEM = 800

Squares = tuple[Complex[np.ndarray, "_ _ _"], ...]
Flat = Float[np.ndarray, "M"]


class Layout:
    """Indices of the `M` transmissions that have a target, weight and channel: the hardest, if too many do.

    `pairs` are all pairs of transmissions by one device, each in both orders and with itself.
    """

    def __init__(self, form: CombinedForm) -> None:
        self.form = form
        self.used: Bool[np.ndarray, "J K"] = hardest(form)
        self.size = int(self.used.sum())
        number = np.full(self.used.shape, self.size)
        number[self.used] = np.arange(self.size)
        self.places: list[Int[np.ndarray, "_ _"]] = []
        self.rows: list[Complex[np.ndarray, "_ _ _"]] = []
        for phase, stack in enumerate(form.stacks):
            place = np.full(stack.devices.shape, self.size)
            place[stack.receiver_of, stack.slot_of] = number[phase]
            slots = _first_slots(place < self.size)
            self.places.append(np.take_along_axis(place, slots, axis=1))
            self.rows.append(np.take_along_axis(stack.rows, slots[..., None], axis=1))
        one, other, device = np.nonzero(self.used[:, None] & self.used)
        self.pairs = number[one, device], number[other, device]

    def table(self, flat: Flat) -> Float[np.ndarray, "J K"]:
        """By phase and device; 0 where a transmission does not matter."""
        table = np.zeros(self.used.shape)
        table[self.used] = flat
        return table

    def stacked(self, flat: Flat) -> list[Float[np.ndarray, "_ _"]]:
        """By stack, receiver and slot; 0 in empty slots."""
        padded = np.append(flat, 0.0)
        return [padded[place] for place in self.places]

    def gathered(self, slots: list[Float[np.ndarray, "_ _"]]) -> Flat:
        """The vector of values by stack, receiver and slot."""
        flat = np.zeros(self.size + 1)
        for place, values in zip(self.places, slots, strict=True):
            flat[place] = values
        return flat[:-1]

    def spread(self, values: list[Float[np.ndarray, "_ 1"]]) -> Flat:
        """The vector in which every transmission has its receiver's value."""
        pairs = zip(values, self.places, strict=True)
        return self.gathered([np.broadcast_to(value, place.shape) for value, place in pairs])

    def weighted_grams(self, flat: Flat) -> Squares:
        """``A^H diag(flat) A`` of every receiver."""
        pairs = zip(self.rows, self.stacked(flat), strict=True)
        return tuple(np.swapaxes(rows.conj(), -1, -2) @ (values[..., None] * rows) for rows, values in pairs)

    def quadratic(self, squares: Squares) -> Flat:
        """``a Q a^H`` of every transmission."""
        pairs = zip(self.rows, squares, strict=True)
        return self.gathered([_quadratic(rows, square) for rows, square in pairs])

    def covariances(self, lifts: Squares) -> Squares:
        """``X = Y / W``."""
        weights = [np.where(stack.weights > 0, stack.weights, 1.0) for stack in self.form.stacks]
        return tuple(lift / weight[:, None, None] for lift, weight in zip(lifts, weights, strict=True))

    def strengths(self, covariances: Squares) -> Float[np.ndarray, "J K"]:
        """``sqrt(a X a^H)``, what the lifted beamformers let through, of every transmission."""
        pairs = zip(self.form.stacks, covariances, strict=True)
        gains = [_quadratic(s.rows, square)[s.receiver_of, s.slot_of] for s, square in pairs]
        return np.sqrt(np.maximum(gains, 0.0))


def candidates(form: CombinedForm) -> Bool[np.ndarray, "J K"]:
    """The transmissions that have a target, weight and channel."""
    return form.reachable & (form.device_weights * form.budgets.targets > 0)


def leaves_out(form: CombinedForm) -> bool:
    """Whether there are too many transmissions for the relaxation to take all into account."""
    return int(candidates(form).sum()) > LARGEST_SYSTEM


def hardest(form: CombinedForm) -> Bool[np.ndarray, "J K"]:
    """The transmissions that weigh most against their channels; of every receiver the same part.

    All that matter, up to `LARGEST_SYSTEM`. The others have the multiplier 0, so the bound stays valid.
    """
    every = candidates(form)
    total = int(every.sum())
    if total <= LARGEST_SYSTEM:
        return every
    kept = np.zeros_like(every)
    for phase, stack in enumerate(form.stacks):
        strength = (np.abs(stack.rows) ** 2).sum(axis=-1)[stack.receiver_of, stack.slot_of]
        quality = strength / nonzero(form.budgets.targets[phase]) ** 2
        for receiver in range(len(stack.rows)):
            own = np.flatnonzero(every[phase] & (stack.receiver_of == receiver))
            share = len(own) * LARGEST_SYSTEM // total
            kept[phase, own[np.argsort(quality[own], kind="stable")[:share]]] = True
    return kept


def _first_slots(used: Bool[np.ndarray, "r s"]) -> Int[np.ndarray, "r m"]:
    """Of every receiver the slots in use, in order, and unused ones up to the most that any receiver uses."""
    if used.sum() == 0 or (most := int(used.sum(axis=1).max())) == used.shape[1]:
        return np.broadcast_to(np.arange(used.shape[1]), used.shape)
    return np.argsort(~used, axis=1, kind="stable")[:, :most]


def _quadratic(
    rows: Complex[np.ndarray, "r s n"], square: Complex[np.ndarray, "r n n"]
) -> Float[np.ndarray, "r s"]:
    return np.asarray(((rows @ square) * rows.conj()).sum(axis=-1).real)
