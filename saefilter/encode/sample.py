"""Of a long text an even sample of its scored tokens, which the SAE then reads in place of all.

Every scored token has the same chance, so that the mean over the sample is an unbiased estimate of the
mean over all of them. Which are drawn depends on the text alone: they are the same in every run, in
whatever order, shard or process the row is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.rendered import Window

DIGEST_BYTES = 16


def by_text(windows: Sequence[Window], n_texts: int) -> list[list[Window]]:
    """The windows of each text (`Window.row`), in order, `[n_texts]`."""
    own: list[list[Window]] = [[] for _ in range(n_texts)]
    for window in windows:
        own[window.row].append(window)
    return own


def digest_of(windows: Sequence[Window]) -> bytes:
    """Of what a model is given of a text, and where it is read: equal ones give equal scores. Where the
    tokens stand in the text is not part of it."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for window in windows:
        digest.update(len(window.ids).to_bytes(8, "little"))
        digest.update(window.ids.astype("<i8", copy=False).tobytes())
        digest.update(window.scored.tobytes())
    return digest.digest()


def drawn(n: int, size: int, seed: bytes) -> NDArray[np.int64]:
    """Places of a simple random sample of `size` of `n` without replacement, ascending, `[size]`.

    Raw bits of PCG64, whose stream NumPy keeps as it is, unlike that of its `choice`: another version
    draws the same.
    """
    bits = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(n)
    return np.sort(np.argsort(bits, kind="stable")[:size])


def ended(window: Window) -> Window:
    """Without what comes after its last scored token, for models in which no token sees a later one."""
    places = np.flatnonzero(window.scored)
    if not len(places) or (end := int(places[-1]) + 1) == len(window.scored):
        return window
    return Window(window.row, window.ids[:end], window.scored[:end], window.spans[:end])


def sampled(windows: Sequence[Window], size: int, *, cut: bool, seed: bytes = b"") -> list[Window]:
    """The windows of one text with at most `size` scored tokens among them all; those that keep none are
    left out, since nothing of them is read.

    `cut`: also leave out what comes after a window's last scored token, for models in which no token
    sees a later one. `seed` draws another sample than the text's own.
    """
    counts = [int(np.count_nonzero(window.scored)) for window in windows]
    if sum(counts) <= size:
        return list(windows)
    kept = drawn(sum(counts), size, digest_of(windows) + seed)
    read = []
    first = 0
    for window, count in zip(windows, counts, strict=True):
        own = kept[(kept >= first) & (kept < first + count)] - first
        first += count
        if not len(own):
            continue
        places = np.flatnonzero(window.scored)[own]
        scored = np.zeros_like(window.scored)
        scored[places] = True
        one = window._replace(scored=scored)
        read.append(ended(one) if cut else one)
    return read
