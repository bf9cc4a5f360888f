import threading
import time

import pytest
import torch

from airsim.learn.parallel import PIECES_IN_HAND, allowed_threads, in_order, one_threaded_kernels


def test_results_come_in_the_order_of_the_items_however_long_each_takes():
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item

    assert list(in_order(work, range(20), threads=3)) == list(range(20))


def test_every_piece_of_work_runs_with_one_kernel_thread():
    assert set(in_order(lambda _: torch.get_num_threads(), range(6), threads=2)) == {1}


def test_only_a_few_pieces_are_begun_ahead_of_the_reader():
    begun = []
    results = in_order(begun.append, iter(range(100)), threads=2)
    next(results)
    assert len(begun) <= PIECES_IN_HAND * 2
    results.close()


def test_work_is_shared_among_threads():
    meeting = threading.Barrier(2, timeout=10)  # passed only by two at once
    list(in_order(lambda _: meeting.wait(), range(2), threads=2))


def test_an_error_in_a_piece_reaches_the_reader_and_the_number_of_threads_is_restored():
    before = torch.get_num_threads()

    def work(item):
        if item == 3:
            raise ValueError("piece 3")

    with pytest.raises(ValueError, match="piece 3"):
        list(in_order(work, range(8), threads=2))
    assert torch.get_num_threads() == before
    with one_threaded_kernels():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_pieces_use_as_many_threads_as_are_allowed():
    meeting = threading.Barrier(3, timeout=10)
    with allowed_threads(3):
        list(in_order(lambda _: meeting.wait(), range(3)))
    with allowed_threads(1):
        assert set(in_order(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}
