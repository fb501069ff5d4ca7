"""GPUs by name, as their data sheets describe them (cards.toml): what `doctor --gpus 8xH100` stands for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from saefilter.errors import SaefilterError, did_you_mean

ASKED = re.compile(r"(?:(\d{1,9})\s*[x×*])?\s*([A-Za-z][\w -]*)")


@dataclass(frozen=True)
class Card:
    """One kind of GPU."""

    name: str
    memory_gb: float
    """10^9 bytes."""
    tflops: float
    """Dense matrix products in `dtype`, 10^12 operations a second."""
    tb_s: float
    """Memory bandwidth, 10^12 bytes a second."""
    source: str
    dtype: str = "bf16"


@dataclass(frozen=True)
class Cards:
    """Some equal cards."""

    count: int
    card: Card

    def __str__(self) -> str:
        return f"{self.count} x {self.card.name}"


@cache
def known_cards() -> dict[str, Card]:
    """All cards of the table, by name."""
    text = (files("saefilter.encode") / "cards.toml").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: Card(name, **fields) for name, fields in table.items()}


def read_cards(text: str) -> Cards:
    """`8xH100`, or `H100` for one. Raises SaefilterError for what is not in the table."""
    asked = ASKED.fullmatch(text.strip())
    if asked is None or (asked[1] is not None and not int(asked[1])):
        raise SaefilterError(
            f"--gpus {text!r} is not a number of cards", remedy="Write it as 8xH100, or L4 for one."
        )
    plain = {name.casefold().replace("-", ""): name for name in known_cards()}
    name = plain.get(re.sub(r"[ _-]", "", asked[2]).casefold())
    if name is None:
        raise SaefilterError(
            f"--gpus: no card {asked[2]!r} is known",
            remedy=did_you_mean(asked[2].strip(), list(known_cards())),
        )
    return Cards(int(asked[1] or 1), known_cards()[name])
