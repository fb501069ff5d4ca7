"""Lanes: several batches at a time, results in order, nothing left running."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from saefilter.encode.lanes import Lanes

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
