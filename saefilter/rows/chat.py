"""Render conversations with the model's own chat template, and know what in it is trained on.

Templates say nothing of masks, or leave them empty. So each message's content is replaced by a mark,
the template is rendered, and the marks show which text is whose. The result is compared with what the
template makes of the real contents; where a template changes a content (cuts reasoning out, writes
tool calls) only that turn is marked, and what stands in its place is what is trained on.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, groupby, pairwise
from typing import Any

import numpy as np

from saefilter.errors import SaefilterError
from saefilter.rows.formats import (
    TOOLS,
    Conversation,
    Message,
    RowProblem,
)
from saefilter.rows.places import BEGIN, HIDDEN, SENTINEL, TurnFinder
from saefilter.rows.render import PlainRenderer, Tokens
from saefilter.rows.rendered import RenderOptions, Segment
from saefilter.rows.trained import (
    Span,
    Widening,
    as_dicts,
    is_plain_text,
    refuse_untrained,
    template_of,
    trained_messages,
)

REASON = 300
"""Characters of what a template says: it may quote the row."""


class ChatRenderer(PlainRenderer):
    """The model's chat template; rows that are plain text are rendered without it."""

    name = "chat"

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
        self.wants_bos = prepend_bos
        self.writes_bos = False
        self.special_texts = [
            entry.content for entry in tokenizer.added_tokens_decoder.values() if entry.special
        ]
        longest_first = sorted(filter(None, self.special_texts), key=len, reverse=True)
        self.spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.skeletons: dict[tuple[str, ...], list[str] | None] = {}
        self.widening: Widening | None = None
        self.finder = TurnFinder(self.rule, self._rendered)

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The rendered text, in order, with what is trained on. Raises RowProblem."""
        if is_plain_text(conversation, self.options.trainer):
            return super().segments(conversation)
        chosen = trained_messages(conversation, self.options.by)
        trained = dict(zip((id(message) for message in conversation), chosen, strict=True))
        tools = [message for message in conversation if message.role == TOOLS]
        messages = [message for message in conversation if message.role != TOOLS]
        marks = [trained[id(message)] for message in messages]
        refuse_untrained(messages, marks)
        for mark in (BEGIN, HIDDEN):
            if any(mark in message.content for message in messages):
                raise RowProblem(
                    f"it holds U+{ord(mark):04X}, which is no character and is used internally: take "
                    "it out"
                )
        try:
            real = self._rendered(messages, tools)
        except RowProblem:
            if messages[0].role != "system" or len(messages) < 2:
                raise
            # templates without a system role: its text goes before the first turn's, as users do
            first = messages[1]
            joined = f"{messages[0].content}\n\n{first.content}"
            messages = [replace(first, content=joined), *messages[2:]]
            marks = marks[1:]
            real = self._rendered(messages, tools)
        if self.rule is not None and self.rule.everything:
            marks = [False] * len(marks)  # no turn need be found
        contents, spelled = self._contents(messages, tools, marks, real)
        if not any(real[slice(*span)].strip() for span in contents) and any(
            trained and message.fields for message, trained in zip(messages, marks, strict=True)
        ):
            raise RowProblem(
                "the chat template writes nothing of the trained turns: it leaves their reasoning or "
                "tool calls out"
            )
        if self.rule is not None:
            if self.widening is None:
                self.widening = Widening(self.rule, self.tokenizer, self.spelled, self._rendered)
            contents = self.widening.spans(messages, tools, contents, real)
        return _cut(real, contents, spelled)

    def _contents(
        self,
        messages: list[Message],
        tools: Sequence[Message],
        marks: list[bool],
        real: str,
    ) -> tuple[list[Span], list[Span]]:
        """Where in the rendered text trained contents are, and where a row's own text may spell out
        special tokens. Raises RowProblem."""
        if not tools and not any(message.fields for message in messages):
            skeleton = self._skeleton(messages)
            for strip in (False, True):
                composed = _composed(skeleton, messages, strip, real) if skeleton else None
                if composed is not None:
                    pairs = zip(composed, marks, strict=True)
                    return [span for span, trained in pairs if trained], composed
        around = self.finder.places(messages, tools, marks, real)
        return around, self._spelled_out(messages, tools, real)

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Message], *, prompt: bool = False
    ) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                as_dicts(messages),
                tools=tools[0].fields["tools"] if tools else None,
                chat_template=template_of(self.tokenizer, tools),
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except Exception as error:  # a template is a program, and the row may be anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RowProblem(f"the chat template refuses it: {reason[:REASON]}") from None
        return text

    def _skeleton(self, messages: Sequence[Message]) -> list[str] | None:
        """The template's own text around the contents: one more than there are messages.

        None when a content does not stand exactly once in its place.
        """
        roles = tuple(message.role for message in messages)
        if roles not in self.skeletons:
            marked = [Message(m.role, SENTINEL.format(i)) for i, m in enumerate(messages)]
            rest, texts = self._rendered(marked, ()), []
            for i in range(len(messages)):
                before, mark, rest = rest.partition(SENTINEL.format(i))
                texts.append(before)
                if not mark:
                    break
            whole = len(texts) == len(messages) and BEGIN not in "".join([*texts, rest])
            self.skeletons[roles] = [*texts, rest] if whole else None
        return self.skeletons[roles]

    def _spelled_out(
        self, messages: Sequence[Message], tools: Sequence[Message], real: str
    ) -> list[tuple[int, int]]:
        """Where in the rendered text a row, and not the template, writes the letters of a special
        token: found by hiding them from the template."""
        hidden = [
            replace(m, content=self._hidden(m.content), fields=self._hidden(dict(m.fields)))
            for m in messages
        ]
        offered = [replace(m, fields=self._hidden(dict(m.fields))) for m in tools]
        if hidden == list(messages) and offered == list(tools):
            return []
        text = self._rendered(hidden, offered)
        spans = [match.span() for match in re.finditer(f"{HIDDEN}+", text)]
        restored, done = [], 0
        for start, end in spans:
            restored += [text[done:start], real[start:end]]
            done = end
        if "".join([*restored, text[done:]]) != real:
            raise RowProblem(
                "it spells out a special token where the chat template changes the text"
            )
        return spans

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.spelled.sub(lambda match: HIDDEN * len(match[0]), value)
        if isinstance(value, dict):
            return {self._hidden(key): self._hidden(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._hidden(item) for item in value]
        return value

    def tokenise(self, rows: Sequence[Sequence[Segment]]) -> list[Tokens]:
        """Tokens of each row, as a trainer would make them of the whole text; where users' text
        holds the letters of a special token, it is tokenised apart, so that they stay letters."""
        tokens_of: list[Tokens | None] = [None] * len(rows)
        kinds: dict[str, list[int]] = {"plain": [], "whole": [], "apart": []}
        for number, segments in enumerate(rows):
            if not any(segment.template for segment in segments):
                kinds["plain"].append(number)
            elif any(self._looks_special(segment) for segment in segments):
                kinds["apart"].append(number)
            else:
                kinds["whole"].append(number)
        texts = ["".join(segment.text for segment in rows[number]) for number in kinds["whole"]]
        encoded = {
            "plain": super().tokenise([rows[number] for number in kinds["plain"]]),
            "whole": self._encoded(texts, split_special_tokens=False),
        }
        for kind, of_kind in encoded.items():
            for number, tokens in zip(kinds[kind], of_kind, strict=True):
                tokens_of[number] = tokens
        for number in kinds["apart"]:
            tokens_of[number] = self._apart(rows[number])
        return [
            self._without_bos(tokens) if number not in kinds["plain"] else tokens
            for number, tokens in enumerate(tokens_of)
            if tokens is not None
        ]

    def _looks_special(self, segment: Segment) -> bool:
        return not segment.template and any(text in segment.text for text in self.special_texts)

    def _apart(self, segments: Sequence[Segment]) -> Tokens:
        tokenised, offset = [], 0
        for template, run in groupby(segments, lambda segment: segment.template):
            text = "".join(segment.text for segment in run)
            (tokens,) = self._encoded([text], split_special_tokens=not template)
            tokenised.append(tokens._replace(spans=tokens.spans + offset))
            offset += len(text)
        return Tokens(*(np.concatenate(column) for column in zip(*tokenised, strict=True)))

    def _without_bos(self, tokens: Tokens) -> Tokens:
        """Without the BOS that most templates write: every window gets its own."""
        if self.bos is None or not len(tokens.ids) or tokens.ids[0] != self.bos:
            return tokens
        self.writes_bos = True
        if len(tokens.ids) > 1 and tokens.ids[1] == self.bos:
            raise SaefilterError(
                "the chat template begins with two BOS tokens, which no model was trained on",
                remedy="Remove bos_token from the template, or use --rendering plain.",
            )
        return Tokens(tokens.ids[1:], tokens.spans[1:], tokens.special[1:])

    def surroundings(self, tokens: Tokens) -> tuple[list[int], list[int]]:
        """One BOS before, where the template writes one or the SAE was trained so; nothing after."""
        if not tokens.special.any():
            return super().surroundings(tokens)
        if self.bos is not None and (self.writes_bos or self.wants_bos):
            return [self.bos], []
        return [], []


def _cut(real: str, trained: Sequence[Span], own: Sequence[Span]) -> list[Segment]:
    """The rendered text in segments: which of it is trained, and which is a row's `own` text, where the
    letters of special tokens are letters."""
    ends = sorted({0, len(real), *chain.from_iterable(trained), *chain.from_iterable(own)})
    return [
        Segment(
            real[start:end], _within(start, end, trained), template=not _within(start, end, own)
        )
        for start, end in pairwise(ends)
    ]


def _within(start: int, end: int, spans: Sequence[Span]) -> bool:
    """Whether it lies in one of the spans, which are in order."""
    before = bisect_right(spans, start, key=lambda span: span[0])
    return before > 0 and end <= spans[before - 1][1]


def _composed(
    skeleton: list[str], messages: Sequence[Message], strip: bool, real: str
) -> list[Span] | None:
    """Where the contents are, if skeleton and contents, interleaved, are the rendered text."""
    text, spans = "", []
    for before, message in zip(skeleton, messages, strict=False):
        content = message.content.strip() if strip else message.content
        start = len(text) + len(before)
        text += before + content
        spans.append((start, start + len(content)))
    return spans if text + skeleton[-1] == real else None
