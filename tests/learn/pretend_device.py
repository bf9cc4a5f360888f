"""A second device without a second chip: it computes on the CPU, refuses mixed operands, notes copies.

Tensors on it say that they are on `DEVICE`, hold real numbers, and are reached through torch's dispatcher
alone, so every operation of a run is seen. One of its tensors with others fails as on a GPU; numbers (tensors
without dimensions) and CPU indices are let through, as there. What leaves or enters is recorded.
"""

import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import airsim

PACKAGE = f"{Path(airsim.__file__).parent}/"
# Torch lets this name be used without a chip, and no kernel is ever run on it here.
DEVICE = torch.device("meta")
ATEN = torch.ops.aten
INDEXING = {ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default, ATEN._index_put_impl_.default}


@dataclass(frozen=True)
class Copy:
    """Entries that went to the device, came from it, or were looked at by Python."""

    way: str  # to, from, read
    entries: int
    dtype: torch.dtype
    where: str


class PretendTensor(torch.Tensor):
    """A tensor that says it is on `DEVICE`; its numbers are in `inner`, on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=False,
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        with torch._C.DisableTorchFunctionSubclass():
            return function(*arguments, **(options or {}))

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        raise RuntimeError(f"{operation} outside of `pretending()`")

    def __repr__(self):
        return f"PretendTensor({tuple(self.shape)})"


class Literals(TorchFunctionMode):
    """Python's own numbers go to the device by way of the CPU, so that they are neither lost nor unseen."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = dict(options or {})
        if function is torch.tensor and torch.device(options.get("device") or "cpu") == DEVICE:
            return torch.tensor(*arguments, **{**options, "device": "cpu"}).to(DEVICE)
        if arguments and isinstance(arguments[0], PretendTensor):
            own, *others = arguments
            if function is torch.Tensor.tolist:
                return own.cpu().tolist()
            if function is torch.Tensor.new_tensor:
                return torch.tensor(*others, **{"dtype": own.dtype, **options}).to(DEVICE)
            if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
                return function(own, _index(others[0]), *others[1:])
        return function(*arguments, **options)


def _index(key):
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    return torch.tensor(key) if isinstance(key, list) else key


@dataclass
class Pretence(TorchDispatchMode):
    """While this mode is on, `DEVICE` computes."""

    copies: list[Copy] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = dict(options or {})
        leaves = [x for x in tree_flatten((arguments, options))[0] if isinstance(x, torch.Tensor)]
        here = [x for x in leaves if isinstance(x, PretendTensor)]
        asked = options.get("device")
        if not here and (asked is None or torch.device(asked).type != DEVICE.type):
            return operation(*arguments, **options)
        if asked is not None:
            options["device"] = torch.device("cpu")
        if operation is ATEN._local_scalar_dense.default or _waits(operation, arguments):
            self._note("read", here[0] if here else None)
        to_cpu = asked is not None and torch.device(asked).type == "cpu"
        if operation is ATEN._to_copy.default and (to_cpu or not here):
            self._note("from" if to_cpu else "to", arguments[0])
            result = operation(_inner(arguments[0]), **options)
            return result.clone() if to_cpu else PretendTensor(result.clone())
        if operation is ATEN.copy_.default:
            self._note_copy(*arguments[:2])
        else:
            _refuse_mixed(operation, arguments, leaves, here)
            for index in (x for x in leaves if not isinstance(x, PretendTensor) and x.ndim):
                self._note("to", index)
        plain = operation(*tree_map(_inner, arguments), **tree_map(_inner, options))
        if torch.Tag.inplace_view in operation.tags:
            with no_dispatch():  # the shape on the outside follows
                operation(*arguments, **options)
        return self._wrapped(plain, leaves)

    def _wrapped(self, plain, leaves):
        known = {id(_inner(x)): x for x in leaves}

        def wrap(x):
            if not isinstance(x, torch.Tensor):
                return x
            return known[id(x)] if id(x) in known else PretendTensor(x)

        if isinstance(plain, bool):
            self._note("read", None)
        return tree_map(wrap, plain)

    def _note(self, way, x):
        entries = 1 if x is None or way == "read" else x.numel()
        self.copies.append(Copy(way, entries, getattr(x, "dtype", torch.bool), _where()))

    def _note_copy(self, target, source):
        if isinstance(target, PretendTensor) is not isinstance(source, PretendTensor):
            self._note("to" if isinstance(target, PretendTensor) else "from", source)


def _inner(x):
    return x.inner if isinstance(x, PretendTensor) else x


def _waits(operation, arguments):
    """Whether the size of the result depends on the numbers, so that Python waits for it."""
    if operation in INDEXING:
        return any(x is not None and x.dtype is torch.bool for x in arguments[1])
    return torch.Tag.dynamic_output_shape in operation.tags


def _refuse_mixed(operation, arguments, leaves, here):
    strangers = [x for x in leaves if not isinstance(x, PretendTensor) and x.ndim]
    if operation in INDEXING:
        indices = [x for x in arguments[1] if x is not None]
        strangers = [x for x in strangers if not any(x is index for index in indices)]
    if here and strangers:
        raise RuntimeError(f"{operation}: tensors on {DEVICE.type} and cpu, {tuple(strangers[0].shape)}")


def _where():
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
    return f"{frames[-1].filename.removeprefix(PACKAGE)}:{frames[-1].lineno}" if frames else "a test"


@contextmanager
def pretending():
    """The device computes inside; gives the record of what went to and fro."""
    with Pretence() as mode, Literals():
        yield mode.copies
