"""What a long piece of work tells whoever watches it; by default nobody does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Watch:
    """What a run tells whoever watches it."""

    say: Callable[[str], None] = lambda text: None
    """Told a line now and then."""
    plan: Callable[[int, int], None] = lambda rows, done: None
    """Told how many rows there are, and how many an earlier run has done."""
    advance: Callable[[int, int], None] = lambda rows, tokens: None
    """Told how many rows and tokens have been done since it was told last."""
