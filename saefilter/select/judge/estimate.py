"""What asking will take, said before anything is sent: requests, tokens, cost and time."""

from __future__ import annotations

from dataclasses import dataclass

from saefilter.select.judge.ask import tokens_of
from saefilter.select.judge.prompt import Prompt
from saefilter.select.judge.settings import JudgeSettings
from saefilter.text import rows_of

TOKENS_OUT = 50
"""Of one verdict: a score and a sentence."""
SECONDS = 2.0
"""Of one request; measured ones vary from a fifth of this to five times as much."""


@dataclass(frozen=True)
class Estimate:
    """Rough, but for the number of requests. Attempts that fail come on top."""

    rows: int
    cached: int
    """Rows whose verdict is there already, or comes with that of an equal row."""
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    """In the prices' currency; None without prices."""
    seconds: float

    @classmethod
    def of(
        cls,
        settings: JudgeSettings,
        prompt: Prompt,
        rows: int,
        requests: int,
        conversation_bytes: int,
    ) -> Estimate:
        """For so many `requests`, whose conversations have so many bytes together."""
        question = len(prompt.text.encode())
        tokens_in = tokens_of(requests * question + conversation_bytes)
        tokens_out = requests * TOKENS_OUT
        seconds = requests * SECONDS / min(settings.concurrency, max(requests, 1))
        if settings.rpm:
            seconds = max(seconds, requests * 60 / settings.rpm)
        if settings.tpm:
            seconds = max(seconds, (tokens_in + tokens_out) * 60 / settings.tpm)
        cost = cost_of(settings, tokens_in, tokens_out)
        return cls(rows, rows - requests, requests, tokens_in, tokens_out, cost, seconds)

    def words(self, settings: JudgeSettings) -> str:
        """For a person, on one line."""
        head = f"Judge {settings.model} at {settings.url}: {rows_of(self.rows)}, "
        if not self.requests:
            return f"{head}all with a verdict in {settings.cache_file()}; nothing to ask"
        known = f" ({self.cached:,} known already or repeats)" if self.cached else ""
        cost = "cost unknown (--judge-price-in, --judge-price-out)"
        if self.cost is not None:
            cost = f"about {money(self.cost)} at the given prices"
        return (
            f"{head}{self.requests:,} to ask{known}, about {self.tokens_in:,} tokens in and "
            f"{self.tokens_out:,} out, {cost}, about {duration(self.seconds)} at {SECONDS:g} s a "
            f"request and {settings.concurrency} at a time"
        )


def cost_of(settings: JudgeSettings, tokens_in: int, tokens_out: int) -> float | None:
    """At the prices that were given; None without any."""
    if settings.price_in is None and settings.price_out is None:
        return None
    return (tokens_in * (settings.price_in or 0) + tokens_out * (settings.price_out or 0)) / 1e6


def money(amount: float) -> str:
    """An amount in nobody's currency, with two digits that say something."""
    return f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.2g}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
