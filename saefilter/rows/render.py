"""Render conversations to token ids with the mask of trained tokens, in windows the model can read.

Text and mask are built together from the same segments, so that they cannot disagree. The mask is
by character span: a token is scored when it overlaps trained text, never when it is a special token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.described import described
from saefilter.errors import SaefilterError
from saefilter.rows.formats import ASSISTANT, TEXT, TOOLS, Conversation, Message, RowProblem
from saefilter.settings import ScoreSettings


class Segment(NamedTuple):
    """A stretch of rendered text."""

    text: str
    trained: bool
    template: bool = False
    """Whether the template wrote it: only there are special tokens more than their letters."""


class Window(NamedTuple):
    """Tokens of one row, short enough for the model's context."""

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
    """Tokens of the whole row, before any cut, without those the tokenizer puts around it."""
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


@dataclass(frozen=True)
class RenderOptions:
    """What a user chooses about rendering."""

    max_tokens: int = 1024
    """Rows are cut here, as the trainer does."""
    train_on: str = "assistant"
    """`assistant`, `all` or `last-turn`."""
    truncation_side: str = "right"
    """`right` keeps the beginning of a long row, `left` its end."""

    @classmethod
    def of(cls, settings: ScoreSettings) -> RenderOptions:
        """What the settings of a run say of it."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})

    def __post_init__(self) -> None:
        settings = described(ScoreSettings)
        for one in fields(self):
            settings[one.name].check(getattr(self, one.name))


class Tokens(NamedTuple):
    """A tokenised row."""

    ids: NDArray[np.int64]
    spans: NDArray[np.int32]
    special: NDArray[np.bool_]


class PlainRenderer:
    """Turns joined by blank lines, without role names; for models that have no chat template.

    `context` is the model's limit in tokens, special tokens included. A row longer than it is read
    in consecutive windows, so that no trained token within `max_tokens` goes unscored.
    `prepend_bos` asks for one BOS before each row where the tokenizer has one but adds none.
    """

    name = "plain"

    def __init__(
        self,
        tokenizer: Any,
        *,
        context: int,
        options: RenderOptions | None = None,
        prepend_bos: bool = False,
    ):
        self.tokenizer = tokenizer
        self.context = context
        self.options = options or RenderOptions()
        self.prefix, self.suffix = _surroundings(tokenizer)
        bos = tokenizer.bos_token_id
        if prepend_bos and bos is not None and bos not in self.prefix:
            self.prefix = [bos, *self.prefix]

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The text of a conversation, in order, with what is trained on. Raises RowProblem."""
        segments: list[Segment] = []
        for message, trained in zip(
            conversation, trained_messages(conversation, self.options.train_on), strict=True
        ):
            if segments:
                segments.append(Segment("\n\n", False))
            segments.append(Segment(_plain_content(message), trained))
        return segments

    def render(
        self, conversations: Sequence[Conversation]
    ) -> tuple[list[RenderedRow], list[Window]]:
        """Tokenise some conversations at once; one RenderedRow each, and all their windows."""
        segments_of: list[list[Segment] | str] = []
        for conversation in conversations:
            try:
                segments_of.append(self.segments(conversation))
            except RowProblem as problem:
                segments_of.append(str(problem))
        tokens = iter(self.tokenise([item for item in segments_of if not isinstance(item, str)]))
        rows: list[RenderedRow] = []
        windows: list[Window] = []
        for number, item in enumerate(segments_of):
            if isinstance(item, str):
                rows.append(RenderedRow("", 0, 0, 0, item))
                continue
            row, own = self._cut(number, item, next(tokens))
            rows.append(row)
            windows += own
        return rows, windows

    def tokenise(self, rows: Sequence[Sequence[Segment]]) -> list[Tokens]:
        """Tokens of each row. Special tokens in users' text are text."""
        texts = ["".join(segment.text for segment in segments) for segments in rows]
        return self._encoded(texts, split_special_tokens=True)

    def _encoded(self, texts: list[str], *, split_special_tokens: bool) -> list[Tokens]:
        if not texts:
            return []
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=split_special_tokens,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
            truncation=False,
            verbose=False,
        )
        control = special_ids(self.tokenizer)
        tokens_of = []
        for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            id_array = np.asarray(ids, dtype=np.int64)
            special = np.isin(id_array, control) & (not split_special_tokens)
            tokens_of.append(
                Tokens(id_array, np.asarray(spans, dtype=np.int32).reshape(-1, 2), special)
            )
        return tokens_of

    def surroundings(self, tokens: Tokens) -> tuple[list[int], list[int]]:
        """Special tokens to put before and after every window of a row."""
        return self.prefix, self.suffix

    def _cut(
        self, number: int, segments: list[Segment], tokens: Tokens
    ) -> tuple[RenderedRow, list[Window]]:
        """Cut a row at `max_tokens` and into windows."""
        text = "".join(segment.text for segment in segments)
        trained = ~tokens.special & _overlaps(_char_mask(segments), tokens.spans)
        prefix, suffix = self.surroundings(tokens)
        # trainers count the BOS; CLS and SEP belong to models that nobody trains so
        limit = max(0, self.options.max_tokens - prefix.count(self.tokenizer.bos_token_id))
        kept = slice(0, limit)
        if self.options.truncation_side == "left":
            kept = slice(max(0, len(tokens.ids) - limit), None)
        ids, spans, scored = tokens.ids[kept], tokens.spans[kept], trained[kept]
        n_trained, n_scored = int(trained.sum()), int(scored.sum())
        row = RenderedRow(
            text, len(tokens.ids), n_trained, n_scored, self._problem(n_trained, n_scored)
        )
        size = self.context - len(prefix) - len(suffix)
        windows = []
        for start in range(0, len(ids), size):
            within = slice(start, start + size)
            if scored[within].any():
                before, after = len(prefix), len(suffix)
                windows.append(
                    Window(
                        number,
                        np.concatenate([prefix, ids[within], suffix]).astype(np.int64),
                        np.pad(scored[within], (before, after)),
                        np.pad(spans[within], ((before, after), (0, 0))),
                    )
                )
        return row, windows

    def _problem(self, n_trained: int, n_scored: int) -> str | None:
        if n_trained == 0:
            return "the trained text has no tokens"
        if n_scored == 0:
            return f"all trained tokens lie beyond --max-tokens {self.options.max_tokens}"
        return None


def trained_messages(conversation: Conversation, train_on: str) -> list[bool]:
    """Which messages carry loss. A message's own mark counts, unless all are trained on."""
    last = max(
        (i for i, message in enumerate(conversation) if message.role == ASSISTANT), default=-1
    )
    trained = []
    for i, message in enumerate(conversation):
        chosen = message.role == ASSISTANT and (train_on == "assistant" or i == last)
        if message.role == TEXT or train_on == "all":
            chosen = True
        elif message.train is not None:
            chosen = message.train and (train_on == "assistant" or i == last)
        trained.append(chosen and message.role != TOOLS)
    return trained


def _plain_content(message: Message) -> str:
    """What is said, and the tool calls as the JSON that the model would write."""
    calls = message.fields.get("tool_calls")
    if not calls:
        return message.content
    return "\n".join(filter(None, [message.content, _json(calls)]))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    content = [i for i, mark in enumerate(special) if not mark]
    if not content:
        return ids, []
    return ids[: content[0]], ids[content[-1] + 1 :]


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of control tokens: the named ones, and the added ones that are marked as special."""
    added = [token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special]
    return sorted({*tokenizer.all_special_ids, *added})


def _char_mask(segments: list[Segment]) -> NDArray[np.int64]:
    """Running count of trained characters, so that any span is answered by two look-ups."""
    mask = [np.full(len(segment.text), segment.trained, dtype=bool) for segment in segments]
    return np.concatenate([[0], np.cumsum(np.concatenate([*mask, np.zeros(0, dtype=bool)]))])


def _overlaps(trained_chars: NDArray[np.int64], spans: NDArray[np.int32]) -> NDArray[np.bool_]:
    overlap: NDArray[np.bool_] = trained_chars[spans[:, 1]] > trained_chars[spans[:, 0]]
    return overlap


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """The model's fast tokenizer. Raises SaefilterError when it cannot be had."""
    from transformers import AutoTokenizer

    try:
        # False, not left out: transformers would ask on the terminal whether to run code
        tokenizer = AutoTokenizer.from_pretrained(
            model, revision=revision, use_fast=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise SaefilterError(
            f"the tokenizer of {model} cannot be loaded ({str(error).splitlines()[0]})",
            remedy="Check the name, or download the model again.",
        ) from error
    if not tokenizer.is_fast:
        raise SaefilterError(
            f"{model} has no fast tokenizer, which the mask of trained tokens needs"
        )
    return tokenizer
