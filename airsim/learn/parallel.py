"""Pieces of work on several threads, each with one-threaded kernels, handed back in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pieces per thread that are in hand at once: results wait for their turn, and memory stays bounded.
PIECES_IN_HAND = 2
CPU = torch.device("cpu")
_ALLOWED: ContextVar[int | None] = ContextVar("threads that pieces of work may use", default=None)


@contextmanager
def allowed_threads(number: int) -> Iterator[None]:
    """Inside, pieces of work use this many threads unless told otherwise."""
    before = _ALLOWED.set(number)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


@contextmanager
def one_threaded_kernels() -> Iterator[int]:
    """Products on one thread inside, as on several their bits may change; gives the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int | None = None,
    device: torch.device = CPU,
) -> Iterator[Result]:
    """`work` on every item, in the order of the items; the same bits on any number of threads.

    Where `threads` is None, as many as `allowed_threads` says, else as torch was given; and one for a GPU,
    whose kernels queue. `work` must not depend on other items.
    """
    with one_threaded_kernels() as available:
        wanted = threads or _ALLOWED.get() or available
        if wanted == 1 or device.type != "cpu":
            yield from map(work, items)
        else:
            yield from _on_threads(work, items, wanted)


def _on_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    # A new thread starts with torch's default number of kernel threads.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= PIECES_IN_HAND * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for unfinished in waiting:
                unfinished.cancel()
