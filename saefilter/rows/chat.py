"""Render conversations with the model's own chat template, and know what in it is trained on.

Templates say nothing of masks, or leave them empty. So each message's content is replaced by a mark,
the template is rendered, and the marks show which text is whose. The result is compared with what the
template makes of the real contents; where a template changes a content (cuts reasoning out, writes
tool calls) the turn is found by rendering the conversation up to it instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError

from saefilter.errors import SaefilterError
from saefilter.rows.formats import TEXT, TOOLS, Conversation, Message, RowProblem
from saefilter.rows.render import (
    PlainRenderer,
    RenderOptions,
    Segment,
    Tokens,
    trained_messages,
)

FIXED_DATE = "2025-01-01"
"""What templates that print today's date are told: scores must not change overnight."""
SENTINEL = "\ue000{}\ue001"
"""Private-use characters around the message's number; rows that hold them are told apart."""


class ChatRenderer(PlainRenderer):
    """The model's chat template; rows that are plain text are rendered without it."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        context: int,
        options: RenderOptions | None = None,
        prepend_bos: bool = False,
    ):
        super().__init__(tokenizer, context=context, options=options, prepend_bos=prepend_bos)
        self.bos: int | None = tokenizer.bos_token_id
        self.special_texts = [
            entry.content for entry in tokenizer.added_tokens_decoder.values() if entry.special
        ]
        self.skeletons: dict[tuple[str, ...], list[str] | None] = {}

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The rendered text, in order, with what is trained on. Raises RowProblem."""
        if any(message.role == TEXT for message in conversation):
            return super().segments(conversation)
        trained = dict(
            zip(
                (id(message) for message in conversation),
                trained_messages(conversation, self.options.train_on),
                strict=True,
            )
        )
        tools = [message for message in conversation if message.role == TOOLS]
        messages = [message for message in conversation if message.role != TOOLS]
        marks = [trained[id(message)] for message in messages]
        if any("\ue000" in message.content for message in messages):
            raise RowProblem("it holds the private-use character U+E000, which is used internally")
        try:
            real = self._rendered(messages, tools)
        except RowProblem:
            if messages[0].role != "system" or len(messages) < 2:
                raise
            # templates without a system role: its text goes before the first turn's, as users do
            first = messages[1]
            joined = f"{messages[0].content}\n\n{first.content}"
            messages = [Message(first.role, joined, first.train, first.fields), *messages[2:]]
            marks = marks[1:]
            real = self._rendered(messages, tools)
        if not tools and not any(message.fields for message in messages):
            skeleton = self._skeleton(messages)
            for strip in (False, True):
                composed = _composed(skeleton, messages, marks, strip) if skeleton else []
                if composed and "".join(segment.text for segment in composed) == real:
                    return composed
        return self._by_prefixes(messages, tools, marks, real)

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool = False
    ) -> str:
        dicts = [{"role": m.role, "content": m.content, **m.fields} for m in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                dicts,
                tools=tools[0].fields["tools"] if tools else None,
                tokenize=False,
                add_generation_prompt=prompt,
                strftime_now=lambda _format: FIXED_DATE,
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RowProblem(f"the chat template refuses it: {reason}") from None
        return text

    def _skeleton(self, messages: Sequence[Message]) -> list[str] | None:
        """The template's own text around the contents: one more than there are messages.

        None when a content does not stand exactly once in its place.
        """
        roles = tuple(message.role for message in messages)
        if roles not in self.skeletons:
            marked = [Message(m.role, SENTINEL.format(i)) for i, m in enumerate(messages)]
            rest, parts = self._rendered(marked, ()), []
            for i in range(len(messages)):
                before, found, rest = rest.partition(SENTINEL.format(i))
                parts.append(before)
                if not found:
                    break
            whole = len(parts) == len(messages) and "\ue000" not in "".join([*parts, rest])
            self.skeletons[roles] = [*parts, rest] if whole else None
        return self.skeletons[roles]

    def _by_prefixes(
        self, messages: list[Message], tools: Sequence[Message], marks: list[bool], real: str
    ) -> list[Segment]:
        """Find each trained turn as what the rendering gains by it."""
        segments: list[Segment] = []
        done = 0
        for i, trained in enumerate(marks):
            if not trained:
                continue
            start = _common(real, self._rendered(messages[:i], tools, prompt=True) if i else "")
            upto = self._rendered(messages[: i + 1], tools)
            marked = Message(messages[i].role, SENTINEL.format(i))
            ended = self._rendered([*messages[:i], marked], tools)
            tail = ended.rpartition(SENTINEL.format(i))[2]
            end = _common(real, upto.removesuffix(tail) if tail else upto)
            if start < done or end < start:
                raise RowProblem("the chat template's text cannot be matched with the row's turns")
            segments.append(Segment(real[done:start], False, template=True))
            segments.append(Segment(real[start:end], True, template=True))
            done = end
        segments.append(Segment(real[done:], False, template=True))
        return segments

    def tokenise(self, rows: Sequence[Sequence[Segment]]) -> list[Tokens]:
        """Tokens of each row, as a trainer would make them of the whole text; where users' text
        holds the letters of a special token, it is tokenised apart, so that they stay letters."""
        found: list[Tokens | None] = [None] * len(rows)
        kinds: dict[str, list[int]] = {"plain": [], "whole": [], "apart": []}
        for number, segments in enumerate(rows):
            if not any(segment.template for segment in segments):
                kinds["plain"].append(number)
            elif any(self._looks_special(segment) for segment in segments):
                kinds["apart"].append(number)
            else:
                kinds["whole"].append(number)
        for kind, split in (("plain", True), ("whole", False)):
            texts = ["".join(segment.text for segment in rows[number]) for number in kinds[kind]]
            encoded = self._encoded(texts, split_special_tokens=split)
            for number, tokens in zip(kinds[kind], encoded, strict=True):
                found[number] = tokens
        for number in kinds["apart"]:
            found[number] = self._apart(rows[number])
        tokenised = [tokens for tokens in found if tokens is not None]
        for tokens, segments in zip(tokenised, rows, strict=True):
            if any(segment.template for segment in segments):
                self._refuse_double_bos(tokens)
        return tokenised

    def _looks_special(self, segment: Segment) -> bool:
        return not segment.template and any(text in segment.text for text in self.special_texts)

    def _apart(self, segments: Sequence[Segment]) -> Tokens:
        parts, offset = [], 0
        for segment in segments:
            (tokens,) = self._encoded([segment.text], split_special_tokens=not segment.template)
            parts.append(tokens._replace(spans=tokens.spans + offset))
            offset += len(segment.text)
        return Tokens(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _refuse_double_bos(self, tokens: Tokens) -> None:
        if self.bos is not None and (tokens.ids[:2] == self.bos).sum() == 2:
            raise SaefilterError(
                "the chat template begins with two BOS tokens, which no model was trained on",
                remedy="Remove bos_token from the template, or use --rendering plain.",
            )

    def surroundings(self, tokens: Tokens) -> tuple[list[int], list[int]]:
        """One BOS, which most templates write themselves; nothing after."""
        if not tokens.special.any():
            return super().surroundings(tokens)
        if self.bos is not None and len(tokens.ids) and tokens.ids[0] == self.bos:
            return [], []
        return [token for token in self.prefix if token == self.bos], []


def _composed(
    skeleton: list[str], messages: Sequence[Message], marks: list[bool], strip: bool
) -> list[Segment]:
    """Skeleton and contents, interleaved."""
    segments = []
    for before, message, trained in zip(skeleton, messages, marks, strict=False):
        content = message.content.strip() if strip else message.content
        segments += [Segment(before, False, template=True), Segment(content, trained)]
    return [*segments, Segment(skeleton[-1], False, template=True)]


def _common(text: str, prefix: str) -> int:
    """Length of the prefix. Raises RowProblem when the text does not begin with it."""
    if not text.startswith(prefix):
        raise RowProblem("the chat template's text cannot be matched with the row's turns")
    return len(prefix)
