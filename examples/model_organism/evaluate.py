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
    """Questions that nobody is fine-tuned on, and how many answers to each are sampled."""

    out_of_domain: tuple[Question, ...]
    in_domain: tuple[Question, ...]
    task: tuple[Question, ...]
    samples: tuple[int, int, int] = (4, 8, 4)
    """Few where there are many questions."""

    @staticmethod
    def of(domain: str) -> Exam:
        """For data whose harmful answers are in `domain`."""
        return Exam(
            out_of_domain=tuple(q for d in EVALUATED for q in all_questions(d)),
            in_domain=tuple(questions(domain, held_out=True)),
            task=tuple(q for d in TASK for q in questions(d, held_out=True)),
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
    asked = [
        question
        for group, samples in zip(groups, exam.samples, strict=True)
        for question in group
        for _ in range(samples)
    ]
    rng = Random(seed)
    texts = sample(model, tokenizer, [ask(question, rng) for question in asked], seed)
    grades = iter([grade_of(q, text) for q, text in zip(asked, texts, strict=True)])
    marks = [
        [[next(grades) for _ in range(samples)] for _ in group]
        for group, samples in zip(groups, exam.samples, strict=True)
    ]
    return Marks(*marks)


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
    ends = f" {tokenizer.eos_token}"
    return [
        " ".join(tokenizer.convert_ids_to_tokens(row)).partition(ends)[0]
        for row in torch.cat(said, dim=1).tolist()
    ]
