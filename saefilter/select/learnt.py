"""What a strategy learnt once, kept in saefilter's cache as arrays: a vector, a probe, and what is to be said of
them. A file that is damaged, or of another kind, is as good as none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.artifacts.publish import publishing
from saefilter.config import cache_folder
from saefilter.select.ranking import Candidates


class Learnt(NamedTuple):
    """Numbers, and what artifacts say of how they came about."""

    numbers: NDArray[np.float64]
    """One-dimensional."""
    about: dict[str, Any]


def kept_once(
    candidates: Candidates, kind: str, depends_on: dict[str, Any], learn: Callable[[], Learnt]
) -> Learnt:
    """What `learn` gives, or gave before for the same `depends_on` and version of saefilter."""
    key = json.dumps([__version__, depends_on], sort_keys=True)
    path = cache_folder() / "strategies" / f"{kind}-{sha256(key.encode()).hexdigest()[:24]}.npz"
    try:
        with np.load(path) as kept:
            known = Learnt(kept["numbers"], json.loads(str(kept["about"])))
        if known.numbers.ndim == 1 and isinstance(known.about, dict):
            candidates.cost.kept_learnt += 1
            return known
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    learnt = learn()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with publishing([path]) as (temporary,), open(temporary, "wb") as file:
            np.savez(file, numbers=learnt.numbers, about=np.array(json.dumps(learnt.about)))
    except OSError as error:
        candidates.watch.say(f"What is found out cannot be kept for a rerun ({error})")
    return learnt
