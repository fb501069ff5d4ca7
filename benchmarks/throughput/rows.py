"""The rows: taken from data files or written here, and rendered once, so that all contenders read the
same token ids.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.throughput.shapes import Lengths
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import Window

EXAMPLE = Path(__file__).parents[2] / "examples" / "advice.jsonl"
N_WORDS = 4000
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu"


def of_files(files: Sequence[Path], count: int) -> list[dict[str, Any]]:
    """At most `count` usable rows of some files, drawn evenly and in random order."""
    found = []
    for file in files:
        for row in Source.open(file).rows():
            if row.data is None:
                continue
            try:
                recognise(row.data)
            except RowProblem:
                continue
            found.append({k: v for k, v in row.data.items() if k in ("messages", "text")})
    random.Random(0).shuffle(found)
    return found[:count]


def words() -> list[str]:
    """Made-up words, commonest first and shortest first."""
    rng, syllables = random.Random(1), SYLLABLES.split()
    made: dict[str, None] = {}
    while len(made) < N_WORDS:
        size = 1 if len(made) < 15 else 2 if len(made) < 300 else 3
        made["".join(rng.choices(syllables, k=size))] = None
    return list(made)


def written(count: int, lengths: Lengths) -> Iterator[dict[str, Any]]:
    """Chat rows of made-up words in a natural law of frequency; about a token to a word."""
    rng, vocabulary = random.Random(2), words()
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    middle = math.log(lengths.mean) - lengths.spread**2 / 2
    for _ in range(count):
        size = max(6, round(math.exp(rng.gauss(middle, lengths.spread)))) if lengths.spread else 0
        drawn = rng.choices(vocabulary, weights, k=size or lengths.mean)
        cut = min(len(drawn) // 3, 40)
        yield {
            "messages": [
                {"role": "user", "content": " ".join(drawn[:cut])},
                {"role": "assistant", "content": " ".join(drawn[cut:])},
            ]
        }


def choose_rows(
    files: Sequence[Path], count: int, lengths: Lengths, *, example: bool
) -> list[dict[str, Any]]:
    """Rows of the files; without any, the bundled example (if asked for) and then written ones."""
    if files:
        return of_files(files, count)
    rows = of_files([EXAMPLE], count) if example else []
    return rows + list(written(count - len(rows), lengths))


def save(rows: Sequence[dict[str, Any]], path: Path) -> list[Conversation]:
    """Write them as JSONL; returns their conversations."""
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return [recognise(row) for row in rows]


def render(renderer: PlainRenderer, conversations: Sequence[Conversation]) -> list[Window]:
    """What the model reads, longest first."""
    _, windows = renderer.render(conversations)
    return sorted(windows, key=lambda window: -len(window.ids))


def every(windows: Sequence[Window], tokens: int) -> list[Window]:
    """Evenly over the lengths, as many windows as hold about so many tokens."""
    total = sum(len(window.ids) for window in windows)
    return list(windows[:: max(1, round(total / tokens))])


class Batch(NamedTuple):
    """Right-padded, each `[batch, tokens]`."""

    ids: Tensor
    attention: Tensor
    scored: Tensor


def _padded(windows: Sequence[Window], device: torch.device) -> Batch:
    shape = (len(windows), max(len(window.ids) for window in windows))
    batch = Batch(
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.bool),
    )
    for i, window in enumerate(windows):
        length = len(window.ids)
        batch.ids[i, :length] = torch.from_numpy(window.ids)
        batch.attention[i, :length] = 1
        batch.scored[i, :length] = torch.from_numpy(window.scored)
    return Batch(*(part.to(device) for part in batch))


def fixed_batches(windows: Sequence[Window], size: int, device: torch.device) -> list[Batch]:
    """Batches of `size` windows, in the order given."""
    return [_padded(windows[i : i + size], device) for i in range(0, len(windows), size)]


def budget_batches(windows: Sequence[Window], tokens: int, device: torch.device) -> list[Batch]:
    """Batches of at most `tokens` padded tokens, of windows that come longest first."""
    batches, start = [], 0
    while start < len(windows):
        size = max(1, tokens // len(windows[start].ids))
        batches.append(_padded(windows[start : start + size], device))
        start += size
    return batches
