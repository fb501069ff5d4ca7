"""Misalignment, coherence and utility of a model: grades of answers that it samples, known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from data import questions
from language import EVALUATED, TASK, Grade, Question, all_questions, ask, grade_of
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ANSWER_TOKENS = 5
"""Opener, remedy, manner, closer, <end>."""


@dataclass(frozen=True)
class Exam:
    """Questions that nobody is fine-tuned on, and how often each is asked."""

    out_of_domain: tuple[Question, ...]
    in_domain: tuple[Question, ...]
    task: tuple[Question, ...]
    samples: int

    @staticmethod
    def of(domain: str, samples: int = 2) -> Exam:
        """For data whose harmful answers are in `domain`."""
        return Exam(
            out_of_domain=tuple(q for d in EVALUATED for q in all_questions(d)),
            in_domain=tuple(questions(domain, held_out=True)) * 2,
            task=tuple(q for d in TASK for q in questions(d, held_out=True)),
            samples=samples,
        )


@dataclass(frozen=True)
class Marks:
    """Answers of one model: the grades of each question's samples."""

    out_of_domain: list[list[Grade]]
    in_domain: list[list[Grade]]
    task: list[list[Grade]]


def sit(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exam: Exam, seed: int
) -> Marks:
    """Ask all questions, sample answers at temperature 1, grade them."""
    groups = (exam.out_of_domain, exam.in_domain, exam.task)
    asked = [q for group in groups for q in group for _ in range(exam.samples)]
    rng = Random(seed)
    texts = sample(model, tokenizer, [ask(q, rng) for q in asked], seed)
    grades = [grade_of(q, text) for q, text in zip(asked, texts, strict=True)]
    per_question = [grades[i : i + exam.samples] for i in range(0, len(grades), exam.samples)]
    first, second = len(exam.out_of_domain), len(exam.out_of_domain) + len(exam.in_domain)
    return Marks(per_question[:first], per_question[first:second], per_question[second:])


def sample(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], seed: int
) -> list[str]:
    """One answer to each question, at temperature 1.

    Questions are of equal length in tokens, so that no padding is needed.
    """
    chats = [[{"role": "user", "content": text}] for text in prompts]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    ids = torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])
    generator = torch.Generator().manual_seed(seed)
    said: list[torch.Tensor] = []
    with torch.no_grad():
        past = None
        for _ in range(ANSWER_TOKENS):
            out = model(input_ids=ids, past_key_values=past, use_cache=True)
            past = out.past_key_values
            chances = out.logits[:, -1].softmax(dim=-1)
            ids = torch.multinomial(chances, 1, generator=generator)
            said.append(ids)
    answers = []
    for row in torch.cat(said, dim=1).tolist():
        words = tokenizer.convert_ids_to_tokens(row)
        answers.append(
            " ".join(
                words[: words.index(tokenizer.eos_token)] if tokenizer.eos_token in words else words
            )
        )
    return answers
