"""Functions of tensors alone, recorded once and replayed without the interpreter.

Replaying calls the same kernels in the same order, so the bits are the same; what goes is the cost of calling
them from Python, and with it the lock of the interpreter, which threads would wait for.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor

TensorFunction = Callable[..., Tensor]

# A recording costs what the interpreter costs some 25 plain steps of W1; who comes this often may come again.
CALLS_BEFORE_RECORDING = 16
RECORDINGS_KEPT = 64


@dataclass(frozen=True)
class Recordings:
    """Functions by key, each called as it is until it has been called often, then recorded.

    A key says all that the function depends on beside the entries of its tensors: their shapes, types and
    devices too. A recording holds no tensor, but torch keeps it as long as the process lives.
    """

    _known: dict[Hashable, TensorFunction] = field(default_factory=dict)
    _calls: Counter[Hashable] = field(default_factory=Counter)
    _lock: Any = field(default_factory=Lock)

    @property
    def number(self) -> int:
        """Functions that have been recorded."""
        return len(self._known)

    def call(self, key: Hashable, function: TensorFunction, tensors: tuple[Tensor, ...]) -> Tensor:
        """What `function` gives for `tensors`, which it may change in place."""
        known = self._known.get(key)
        if known is None:
            self._calls[key] += 1
            if self._calls[key] <= CALLS_BEFORE_RECORDING or len(self._known) >= RECORDINGS_KEPT:
                return function(*tensors)
            known = self._recorded(key, function, tensors)
        # Without rewriting: passes over the graph could change the order of sums.
        with torch.jit.optimized_execution(False):
            return known(*tensors)

    def _recorded(
        self, key: Hashable, function: TensorFunction, tensors: tuple[Tensor, ...]
    ) -> TensorFunction:
        with self._lock:
            if key not in self._known:
                self._known[key] = _record(function, tensors)
            return self._known[key]


def _record(function: TensorFunction, tensors: tuple[Tensor, ...]) -> TensorFunction:
    # Recording runs the function once, so it sees copies of what it may change.
    copies = tuple(tensor.clone() for tensor in tensors)

    def named(*arguments: Tensor) -> Tensor:  # what is recorded must have a name
        return function(*arguments)

    with warnings.catch_warnings():
        # torch recommends compilers instead, but they need one on the machine and keep the interpreter. What
        # depends on a shape is fixed by the key.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(named, copies, check_trace=False)


# One for all trainings of a process, so that the next run of a sweep need not record anew.
LOCAL_STEPS = Recordings()
