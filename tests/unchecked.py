"""Long computations in a process of their own, where no shape checks slow them down."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def unchecked(function, *arguments):
    """What a function of a module gives."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
