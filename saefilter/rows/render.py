"""Render conversations to token ids with the mask of trained tokens, in windows the model can read.

Text and mask are built together from the same segments, so that they cannot disagree. The mask is
by character span: a token is scored when it overlaps trained text, never when it is a special token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import ASSISTANT, TEXT, Conversation


class Segment(NamedTuple):
    """A stretch of rendered text."""

    text: str
    trained: bool


class Window(NamedTuple):
    """A piece of one row, short enough for the model's context."""

    row: int
    """Which of the rendered rows it belongs to."""
    ids: NDArray[np.int64]
    """Token ids with the model's special tokens, `[n_tokens]`."""
    scored: NDArray[np.bool_]
    """Which tokens are trained on and so scored, `[n_tokens]`."""
    spans: NDArray[np.int32]
    """Character span of each token in the row's text, `[n_tokens, 2]`."""


@dataclass(frozen=True)
class RenderedRow:
    """What became of one row."""

    text: str
    n_tokens: int
    """Content tokens of the whole row, before any cut."""
    n_trained: int
    """Of these, tokens that training would learn from, before any cut."""
    n_scored: int
    """Trained tokens within `max_tokens`."""
    problem: str | None = None
    """Why it cannot be scored; then it has no windows."""

    @property
    def truncated(self) -> bool:
        """Whether trained tokens were cut."""
        return self.n_scored < self.n_trained


class PlainRenderer:
    """Turns joined by blank lines, without role names; for models that have no chat template.

    `context` is the model's limit in tokens, special tokens included. A row longer than it is read
    in consecutive windows, so that no trained token within `max_tokens` goes unscored.
    """

    def __init__(self, tokenizer: Any, *, context: int, max_tokens: int, train_on: str):
        self.tokenizer = tokenizer
        self.context = context
        self.max_tokens = max_tokens
        self.train_on = train_on

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The text of a conversation, in order, with what is trained on."""
        last = max(
            (i for i, message in enumerate(conversation) if message.role == ASSISTANT), default=-1
        )
        segments: list[Segment] = []
        for i, message in enumerate(conversation):
            trained = (
                message.role == TEXT
                or self.train_on == "all"
                or (message.role == ASSISTANT and (self.train_on == "assistant" or i == last))
            )
            if segments:
                segments.append(Segment("\n\n", False))
            segments.append(Segment(message.content, trained))
        return segments

    def render(
        self, conversations: Sequence[Conversation]
    ) -> tuple[list[RenderedRow], list[Window]]:
        """Tokenise some conversations at once; one RenderedRow each, and all their windows."""
        if not conversations:
            return [], []
        all_segments = [self.segments(conversation) for conversation in conversations]
        texts = ["".join(segment.text for segment in segments) for segments in all_segments]
        encoded = self.tokenizer(
            texts,
            add_special_tokens=True,
            truncation=True,
            max_length=self.context,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            padding=False,
            verbose=False,
        )
        windows_of: list[list[int]] = [[] for _ in texts]
        for number, row in enumerate(encoded["overflow_to_sample_mapping"]):
            windows_of[row].append(number)

        rows: list[RenderedRow] = []
        windows: list[Window] = []
        for row, text in enumerate(texts):
            trained_chars = _char_mask(all_segments[row])
            n_tokens = n_trained = n_scored = 0
            for number in windows_of[row]:
                spans = np.asarray(encoded["offset_mapping"][number], dtype=np.int32).reshape(-1, 2)
                content = ~np.asarray(encoded["special_tokens_mask"][number], dtype=bool)
                trained = content & _overlaps(trained_chars, spans)
                position = n_tokens + np.cumsum(content) - 1
                scored = trained & (position < self.max_tokens)
                n_tokens += int(content.sum())
                n_trained += int(trained.sum())
                n_scored += int(scored.sum())
                if scored.any():
                    ids = np.asarray(encoded["input_ids"][number], dtype=np.int64)
                    windows.append(Window(row, ids, scored, spans))
            rows.append(
                RenderedRow(text, n_tokens, n_trained, n_scored, self._problem(n_trained, n_scored))
            )
        return rows, windows

    def _problem(self, n_trained: int, n_scored: int) -> str | None:
        if n_trained == 0:
            return "the trained text has no tokens"
        if n_scored == 0:
            return f"all trained tokens lie beyond --max-tokens {self.max_tokens}"
        return None


def _char_mask(segments: list[Segment]) -> NDArray[np.int64]:
    """Running count of trained characters, so that any span is answered by two look-ups."""
    mask = np.concatenate([np.full(len(s.text), s.trained, dtype=bool) for s in segments])
    return np.concatenate([[0], np.cumsum(mask)])


def _overlaps(trained_chars: NDArray[np.int64], spans: NDArray[np.int32]) -> NDArray[np.bool_]:
    overlap: NDArray[np.bool_] = trained_chars[spans[:, 1]] > trained_chars[spans[:, 0]]
    return overlap


def load_tokenizer(path: str) -> Any:
    """The model's fast tokenizer, told not to read special tokens out of users' text."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, use_fast=True, split_special_tokens=True)
