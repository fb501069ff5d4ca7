"""What counts as a lack of memory."""

from __future__ import annotations

import pytest

from saefilter.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("could not create a primitive descriptor"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("required rank 4 tensor to use channels_last memory format"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_lack_of_memory_is_one(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) == is_one
