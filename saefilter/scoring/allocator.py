"""Give memory that is free in this process back to the system.

glibc keeps what was freed for later, for each thread apart, and tensors of a few megabytes leave holes
that the next ones do not fit: after a million rows, two thirds of the process would be such holes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back_free_memory() -> None:
    """Does nothing where the C library is another one than glibc."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (
        OSError,
        TypeError,
        AttributeError,
    ):  # Windows has no such library, others no such function
        return None
    return found
