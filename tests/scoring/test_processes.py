from __future__ import annotations

import platform

import numpy as np
import psutil
import pytest

from saefilter.scoring.processes import give_back_free_memory

BLOCK, BLOCKS = 96 << 10, 2000
"""Bytes; larger blocks would be given back by themselves."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_holes_between_what_is_in_use_are_given_back() -> None:
    blocks = [np.ones(BLOCK, dtype=np.uint8) for _ in range(BLOCKS)]
    in_use = blocks[::10]
    del blocks
    before = psutil.Process().memory_info().rss
    give_back_free_memory()
    freed = before - psutil.Process().memory_info().rss
    assert freed > 0.5 * BLOCK * BLOCKS
    assert all(block.all() for block in in_use)
