"""Lanes: several batches at a time, results in order, nothing left running."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import torch

from saefilter.encode.fast.lanes import Lanes

CPU = torch.device("cpu")


def test_results_come_in_order_and_lanes_compute_alone() -> None:
    before = torch.get_num_threads()
    lanes = Lanes(CPU, 3)
    together = threading.Barrier(3)

    def work(item: int) -> tuple[int, int]:
        if item < 3:
            together.wait(timeout=30)  # passes only where three are computed at a time
        time.sleep(0.002 * (5 - item % 5))
        assert torch.is_inference_mode_enabled()
        return item, torch.get_num_threads()

    assert list(lanes.map(work, range(40))) == [(item, 1) for item in range(40)]
    assert torch.get_num_threads() == before
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before]


def test_one_lane_may_ask_to_compute_alone() -> None:
    lanes = Lanes(CPU, 3)
    computing: set[int] = set()
    overlaps: list[int] = []

    def work(item: int) -> int:
        computing.add(item)
        time.sleep(0.002)
        computing.discard(item)
        if item % 4:
            return item
        with lanes.alone():  # twelve of them, up to three at a time
            computing.add(item)
            time.sleep(0.01)
            overlaps.append(len(computing))
            computing.discard(item)
        return item

    assert list(lanes.map(work, range(48))) == list(range(48))
    assert overlaps == [1] * 12


def test_threads_end_with_the_lanes_and_a_start_that_fails_is_an_error() -> None:
    earlier = set(threading.enumerate())  # of encoders of other tests, which may end meanwhile

    def lane_threads() -> int:
        own = set(threading.enumerate()) - earlier
        return sum(thread.name.startswith("saefilter-lane") for thread in own)

    lanes = Lanes(CPU, 3)
    assert list(lanes.map(abs, range(4))) == [0, 1, 2, 3]
    assert lane_threads() == 3
    del lanes
    gc.collect()
    closed = Lanes(CPU, 2)
    closed.close()
    deadline = time.monotonic() + 30
    while lane_threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            Lanes(torch.device("cuda"))


def test_an_error_ends_the_others_first() -> None:
    lanes = Lanes(CPU, 2)
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(lanes.map(work, range(1000)))
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 20
    assert list(lanes.map(lambda item: item, range(5))) == [0, 1, 2, 3, 4]
