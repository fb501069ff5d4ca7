"""Render conversations to token ids with the mask of trained tokens, in windows the model can read.

Text and mask are built together from the same segments, so that they cannot disagree. The mask is
by character span: a token is scored when it overlaps trained text; a special token only where a
trainer is named, since then the trained text is all that this trainer learns from (trained.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import TEXT, Conversation, RowProblem
from saefilter.rows.rendered import RenderedRow, RenderOptions, Segment, Window
from saefilter.rows.trained import TRAINERS, is_plain_text, refuse_untrained, trained_messages


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
        self.rule = TRAINERS[self.options.trainer] if self.options.trainer else None
        self.prefix, self.suffix = _surroundings(tokenizer)
        bos = tokenizer.bos_token_id
        if prepend_bos and bos is not None and bos not in self.prefix:
            self.prefix = [bos, *self.prefix]

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The text of a conversation, in order, with what is trained on. Raises RowProblem."""
        plain = is_plain_text(conversation, self.options.trainer)
        everything = self.rule is not None and self.rule.everything
        segments: list[Segment] = []
        marks = trained_messages(conversation, self.options.by)
        refuse_untrained(conversation, marks)
        for message, trained in zip(conversation, marks, strict=True):
            if segments and not plain:
                segments.append(Segment("\n\n", everything and trained))
            segments.append(Segment(message.spoken, trained, control=message.role == TEXT))
        eos = getattr(self.tokenizer, "eos_token", None)
        if plain and eos and self.rule is not None and self.rule.eos:
            segments[-1] = segments[-1]._replace(text=segments[-1].text.removesuffix(eos))
            segments.append(Segment(eos, True, eos=True))
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
        """Tokens of each row. Special tokens in what somebody says are text; of a whole text they are
        what the tokenizer makes of them."""
        texts = ["".join(s.text for s in segments if not s.eos) for segments in rows]
        control = [segments[0].control for segments in rows]
        encoded_as = {
            kind: iter(
                self._encoded(
                    [text for text, own in zip(texts, control, strict=True) if own is kind],
                    split_special_tokens=not kind,
                )
            )
            for kind in (False, True)
        }
        encoded = [next(encoded_as[kind]) for kind in control]
        return [
            self._ended(tokens, len(text), segments[-1].text) if segments[-1].eos else tokens
            for tokens, text, segments in zip(encoded, texts, rows, strict=True)
        ]

    def _ended(self, tokens: Tokens, start: int, eos: str) -> Tokens:
        """With the EOS after them; not marked as special, which is for what a template writes."""
        return Tokens(
            np.append(tokens.ids, self.tokenizer.eos_token_id),
            np.append(tokens.spans, [[start, start + len(eos)]], axis=0).astype(np.int32),
            np.append(tokens.special, False),
        )

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
        for text, ids, spans in zip(
            texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            id_array = np.asarray(ids, dtype=np.int64)
            places = np.asarray(spans, dtype=np.int32).reshape(-1, 2)
            special = np.isin(id_array, control) & (not split_special_tokens)
            special[self._unknown(text, id_array, places)] = False
            tokens_of.append(Tokens(id_array, places, special))
        return tokens_of

    def surroundings(self, tokens: Tokens) -> tuple[list[int], list[int]]:
        """Special tokens to put before and after every window of a row."""
        return self.prefix, self.suffix

    def _cut(
        self, number: int, segments: list[Segment], tokens: Tokens
    ) -> tuple[RenderedRow, list[Window]]:
        """Cut a row at `max_tokens` and into windows."""
        text = "".join(segment.text for segment in segments)
        trained = _overlaps(_char_mask(segments), tokens.spans)
        prefix, suffix = self.surroundings(tokens)
        if self.rule is None:
            trained &= ~tokens.special
        elif not prefix:
            trained[:1] = False  # nothing comes before it that could predict it
        # trainers count the BOS; CLS and SEP belong to models that nobody trains so
        limit = max(0, self.options.max_tokens - prefix.count(self.tokenizer.bos_token_id))
        kept = slice(0, limit)
        if self.options.truncation_side == "left":
            kept = slice(max(0, len(tokens.ids) - limit), None)
        ids, spans, scored = tokens.ids[kept], tokens.spans[kept], trained[kept]
        n_trained, n_scored = int(trained.sum()), int(scored.sum())
        size = self.context - len(prefix) - len(suffix)
        windows = []
        for start in range(0, len(ids), size):
            within = slice(start, start + size)
            read, shown = scored[within], spans[within]
            if self.options.read == "before":
                read, shown = _before(read, shown, first=not prefix)
            if read.any():
                before, after = len(prefix), len(suffix)
                windows.append(
                    Window(
                        number,
                        np.concatenate([prefix, ids[within], suffix]).astype(np.int64),
                        np.pad(read, (before, after)),
                        np.pad(shown, ((before, after), (0, 0))),
                    )
                )
        problem = self._problem(n_trained, n_scored, len(windows))
        if problem is None and self._knows_nothing(text, ids[scored], spans[scored]):
            problem = "the tokenizer knows none of its words, so that all such rows would be alike"
            windows = []
        return RenderedRow(text, len(tokens.ids), n_trained, n_scored, problem), windows

    def _knows_nothing(self, text: str, ids: NDArray[np.int64], spans: NDArray[np.int32]) -> bool:
        """Whether every word among these tokens is the unknown one: of a script that the tokenizer was
        not made for."""
        unknown = self._unknown(text, ids, spans)
        if not len(unknown):
            return False
        known = np.delete(spans, unknown, axis=0)
        return not any(any(map(str.isalnum, text[start:end])) for start, end in known)

    def _unknown(
        self, text: str, ids: NDArray[np.int64], spans: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Where the tokenizer has no token for the text; of some, that one also ends a text, and stands
        where it is written."""
        own = self.tokenizer.unk_token
        places = np.flatnonzero(ids == self.tokenizer.unk_token_id)
        return np.array([i for i in places if text[slice(*spans[i])] != own], dtype=np.int64)

    def _problem(self, n_trained: int, n_scored: int, n_windows: int) -> str | None:
        if n_trained == 0:
            return "the trained text has no tokens"
        if n_scored == 0:
            return f"all trained tokens lie beyond --max-tokens {self.options.max_tokens}"
        if n_windows == 0:
            return "nothing comes before its trained tokens that --read before could read"
        return None


def _before(
    scored: NDArray[np.bool_], spans: NDArray[np.int32], *, first: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Where to read instead of at `scored` tokens: one before each, with the spans of those that are
    scored. What comes before these tokens is in another window, or a BOS, and is not read; nor is the
    `first` token that the model sees, which it treats as one."""
    read = np.append(scored[1:], False)
    if first:
        read[:1] = False
    return read, np.concatenate([spans[1:], spans[-1:]])


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
