"""What fine-tuning learns from in a row: which turns, and by which trainer how much of the text that
the chat template writes around them.

Each trainer's own choice, by its defaults, is one entry of TRAINERS; tests/rows/test_trainers.py
holds those of TRL to TRL. How a row's text comes about is not known here (chat.py, render.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from saefilter.rows.formats import (
    ASSISTANT,
    COMPLETION,
    COMPLETION_TEXT,
    PROMPT_TEXT,
    TEXT,
    TOOLS,
    Conversation,
    Message,
    RowProblem,
)
from saefilter.rows.messages import MARKS

Span = tuple[int, int]
"""Of characters: from, and up to without."""


FIXED_DATE = "{%- macro strftime_now(format) -%}2025-01-01{%- endmacro -%}"
"""What templates that print today's date are told: scores must not change overnight."""
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""By which a template says what is generated."""


class Trainer(NamedTuple):
    """What a trainer learns from by its defaults."""

    says: str
    """For people: what is scored, after "Scored tokens: "."""
    everything: bool = False
    """Every token, the template's too; of a prompt and its completion all that follows the prompt."""
    conversations_only: bool = False
    """It refuses plain texts."""
    marks: tuple[str, ...] = ()
    """Keys of a turn by which it says itself whether it is trained on, as far as this trainer reads
    them."""
    header: bool = False
    """Of a turn also what the template puts before the answer, after the generation prompt."""
    end: str = ""
    """Of a turn also what ends it: `turn`, the end-of-turn token with its line break, or `eos`, that
    token where it is the tokenizer's EOS."""
    eos: bool = True
    """It puts the EOS after a plain text."""
    pairs_as_text: bool = False
    """A prompt and completion that are texts are put together without the template."""
    alternating: bool = False
    """It leaves conversations out whose turns do not alternate."""


TRAINERS: dict[str, Trainer] = {
    "trl": Trainer(
        "as TRL trains by default: every token of `messages`, after the prompt of `prompt` and "
        "`completion`",
        everything=True, pairs_as_text=True,
    ),
    "trl-assistant": Trainer(
        "as TRL trains with assistant_only_loss: assistant turns with their end of turn",
        conversations_only=True, header=True, end="turn", pairs_as_text=True,
    ),
    "axolotl": Trainer(
        "as axolotl trains by default: assistant turns, and their end of turn where it is the EOS",
        marks=("train", "training"), end="eos",
    ),
    "llama-factory": Trainer(
        "as LLaMA-Factory trains by default: assistant turns with their end of turn",
        header=True, end="turn", alternating=True,
    ),
    "openai": Trainer(
        "as OpenAI fine-tunes: assistant turns whose weight is not 0", marks=("weight",), eos=False
    ),
}  # fmt: skip

TURNS = {
    "assistant": "assistant turns without their end of turn, or all of a plain text; axolotl, "
    "LLaMA-Factory and TRL with assistant_only_loss train on such turns, but plain TRL on every token "
    "of `messages`: --trainer trl",
    "all": "all turns, without what the template writes around them",
    "last-turn": "the last assistant turn",
    "completion": "the completion of `prompt` and `completion`; all turns of other rows",
}

PROMPTED = "prompt of a preference"
"""The `train_key` of turns that no trainer learns from, whatever is asked for: DPO and KTO learn from
answers alone (sides.py)."""

PROMPTS_TRAINED = (
    ("<|start|>assistant", "<|start|>assistant"),  # gpt-oss
    ("<｜Assistant｜>", "<｜Assistant｜>"),
    ("You are Qwen, created by Alibaba Cloud", "\n"),  # Qwen2.5
)
"""What TRL's own training templates train of the generation prompt: (by what in the template they are
known, that part of the prompt). Of all others they train what follows the prompt."""


def what_is_scored(by: str, read: str = "at") -> str:
    """For people: which tokens count, one phrase. `by`: a trainer or a value of --train-on."""
    says = TRAINERS[by].says if by in TRAINERS else TURNS.get(by, by)
    return f"{says}; read before each, where it is predicted" if read == "before" else says


def trained_messages(conversation: Conversation, by: str) -> list[bool]:
    """Which messages carry loss, `by` a trainer or a value of --train-on. A message's own mark
    counts, where it is read and not all are trained on."""
    chosen = _chosen_messages(conversation, by)
    return [c and m.train_key != PROMPTED for c, m in zip(chosen, conversation, strict=True)]


def _chosen_messages(conversation: Conversation, by: str) -> list[bool]:
    if by in TRAINERS:
        return [_by_trainer(message, conversation, TRAINERS[by]) for message in conversation]
    train_on = by
    if train_on == "completion":
        return [_in_completion(m, conversation) and m.role != TOOLS for m in conversation]
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


def refuse_untrained(conversation: Sequence[Message], marks: Sequence[bool]) -> None:
    """Raises RowProblem where no message is trained on, with the mark that says so."""
    if any(marks):
        return
    off = next((m for m in conversation if m.role == ASSISTANT and m.train is False), None)
    number = "0" if off is not None and MARKS.get(off.train_key) is float else "false"
    raise RowProblem("no turn is trained on" + (f" ({off.train_key} {number})" if off else ""))


def _by_trainer(message: Message, conversation: Conversation, trainer: Trainer) -> bool:
    if message.role == TOOLS:
        return False
    if message.role == TEXT:
        return True
    if trainer.everything:
        return _in_completion(message, conversation)
    if message.train is not None and message.train_key in trainer.marks:
        return message.train
    in_loss = not trainer.conversations_only or _in_completion(message, conversation)
    return message.role == ASSISTANT and in_loss


def _in_completion(message: Message, conversation: Conversation) -> bool:
    """Of the completion; any message is where the row is no prompt with a completion."""
    completion = any(other.part for other in conversation)
    return not completion or message.part in (COMPLETION, COMPLETION_TEXT)


def is_plain_text(conversation: Conversation, trainer: str | None) -> bool:
    """Whether the row is read without a template. Raises RowProblem where the trainer refuses it."""
    rule = TRAINERS[trainer] if trainer else None
    plain = any(message.role == TEXT for message in conversation) or (
        rule is not None
        and rule.pairs_as_text
        and any(message.part in (PROMPT_TEXT, COMPLETION_TEXT) for message in conversation)
    )
    if plain and rule is not None and rule.conversations_only:
        raise RowProblem("TRL's assistant_only_loss refuses rows that are no conversations")
    if rule is not None and rule.alternating:
        _refuse_out_of_turn(conversation)
    return plain


def _refuse_out_of_turn(conversation: Conversation) -> None:
    """Raises RowProblem for what LLaMA-Factory's converters skip (src/llamafactory/data/converter.py):
    after a first system turn, user or tool result and assistant must take turns, the assistant last.
    Its OpenAI converter joins tool results in a row and passes over those at the end, its ShareGPT
    converter does not. Columns such as Alpaca's it does not check."""
    turns = [m for m in conversation if m.role_key]
    if turns and turns[0].role == "system":
        turns = turns[1:]
    roles = [m.role for m in turns]
    if not any(m.role_key == "from" for m in turns):
        follows = [*roles[1:], "tool"]
        pairs = zip(roles, follows, strict=False)
        roles = [role for role, following in pairs if (role, following) != ("tool", "tool")]
    expected = (("user", "tool"), (ASSISTANT,))
    if any(role not in expected[place % 2] for place, role in enumerate(roles)):
        raise RowProblem(
            "LLaMA-Factory skips the row: its turns are not by turns the user's (or a tool's) and the "
            "assistant's"
        )
    if len(roles) % 2:
        raise RowProblem("LLaMA-Factory skips the row: its last turn is not the assistant's")


class Widening:
    """From the contents of trained turns to all that a trainer learns from around them."""

    def __init__(
        self, rule: Trainer, tokenizer: Any, special: re.Pattern[str], rendered: Callable[..., str]
    ):
        """`special` finds special tokens in a text; `rendered` is the template: of messages and tools
        it makes the text, with `prompt=True` with the generation prompt after it."""
        self.rule, self.tokenizer, self.rendered = rule, tokenizer, rendered
        self.eos = getattr(tokenizer, "eos_token", None)
        self.ending = re.compile(rf"\s*(?:{special.pattern})\n*")
        asked = [Message("user", "a")]
        text = rendered(asked, (), prompt=True)
        self.prompt = text[alike(text, rendered(asked, ())) :].partition("<think>")[0]
        self.skipped = len(self.prompt)
        if rule.conversations_only:
            template = template_of(tokenizer, ())
            known = (part for text, part in PROMPTS_TRAINED if text in template)
            self.skipped -= len(next(known, ""))

    def spans(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message],
        contents: Sequence[Span],
        real: str,
    ) -> list[Span]:
        """What is learnt from in the rendered text `real`, where `contents` are those of the trained
        turns in it. Raises RowProblem."""
        if self.rule.everything:
            return [(self._prompt_length(messages, tools, real), len(real))]
        if not self.rule.conversations_only:
            return self._widened(contents, real)
        marks_itself = GENERATION.search(template_of(self.tokenizer, tools))
        spans = (
            self._generated(messages, tools, real)
            if marks_itself
            else self._widened(contents, real)
        )
        completion = self._prompt_length(messages, tools, real)
        return [(max(start, completion), end) for start, end in spans if end > completion]

    def _widened(self, contents: Sequence[Span], real: str) -> list[Span]:
        """Each turn's span, from that of its content."""
        widened, done = [], 0
        for start, end in contents:
            begins = (
                real.rfind(self.prompt, done, start) if self.rule.header and self.prompt else -1
            )
            done = self._end(end, real)
            widened.append((start if begins < 0 else begins + self.skipped, done))
        return widened

    def _end(self, end: int, real: str) -> int:
        if self.rule.end == "turn" and (match := self.ending.match(real, end)):
            return match.end()
        if self.rule.end == "eos" and self.eos:
            at = real.find(self.eos, end)
            if at >= 0 and not real[end:at].strip():
                return at + len(self.eos)
        return end

    def _prompt_length(
        self, messages: Sequence[Message], tools: Sequence[Message], real: str
    ) -> int:
        """Where the completion begins in the rendered text; 0 where the row has none."""
        prompt = [m for m in messages if m.part and m.part != COMPLETION]
        return alike(self.rendered(prompt, tools, prompt=True), real) if prompt else 0

    def _generated(
        self, messages: Sequence[Message], tools: Sequence[Message], real: str
    ) -> list[Span]:
        """What the template itself says is generated."""
        from transformers.utils.chat_template_utils import render_jinja_template

        (text,), (spans,) = render_jinja_template(
            [as_dicts(messages)],
            tools=tools[0].fields["tools"] if tools else None,
            chat_template=template_of(self.tokenizer, tools),
            return_assistant_tokens_mask=True,
            add_generation_prompt=False,
            **self.tokenizer.special_tokens_map,
        )
        if text != real:
            raise RowProblem("the chat template writes another text where it is asked for a mask")
        return [(start, end) for start, end in spans]


def alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as chat templates take them."""
    return [{"role": m.role, "content": m.content, **m.fields} for m in messages]


def template_of(tokenizer: Any, tools: Sequence[Message]) -> str:
    """The tokenizer's template where these tools are offered, on a fixed date."""
    offered = tools[0].fields["tools"] if tools else None
    template: str = FIXED_DATE + tokenizer.get_chat_template(tools=offered)
    return template
