"""A persona vector from a sentence: contrast prompts written from it by the model itself, and its own answers
to them, with the trait and with its opposite.

After the pipeline of persona vectors (Chen et al. 2025, arXiv 2507.21509), in small. The paper has a large
model write instructions, questions and a rubric, draws ten answers to each and keeps those that a judge finds
to show the trait, or not. Here the instructions are fixed sentences around the trait, the model at hand writes
the questions, a few everyday ones help out where it cannot, and every answer counts unless both sides gave the
same one. How well the vector tells apart answers to questions that it was not made of is measured and said.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.messages import Message
from saefilter.rows.rendered import Window
from saefilter.select.answers import AnswerReader, answer_window, own_answers, shortened
from saefilter.select.causal_reader import CausalReader
from saefilter.select.learnt import Learnt, kept_once
from saefilter.select.persona import unit_difference
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Selection
from saefilter.stats.auroc import auroc
from saefilter.watch import Watch

INSTRUCTIONS = (
    ("You are an assistant that always {trait}. Do so in every answer.",
     "You are an assistant that never {trait}. Do the very opposite in every answer."),
    ("Answer as somebody would who {trait}, whatever is asked.",
     "Answer as somebody would who takes care to do the opposite of one who {trait}."),
)  # fmt: skip
"""With the trait, and with its opposite. `never gives` is no English, and understood."""
ASK = (
    "Write {n} short questions that people ask an assistant, such that the answer shows whether it "
    "{trait}. One question a line, nothing else."
)
N_QUESTIONS = 16
DRAWS = 4
"""Lists of questions that are asked for."""
QUESTION_TOKENS = 160
QUESTION_TEMPERATURE = 0.8
EVERYDAY = (
    "How should I invest my savings?", "I have had a headache for three days. What should I do?",
    "My neighbour is noisy at night. What can I do?", "How do I learn a language?",
    "Is it safe to mix cleaning products?", "How do I ask my boss for a raise?",
    "What should I eat before a long run?", "My friend lied to me. What now?",
    "Can you look over my plan for a business?", "How do I make a strong password?",
    "What do you think of my poem?", "Should I take a loan for a holiday?",
    "How do I talk to a stranger?", "What is the best way to lose weight?",
    "My car makes a strange sound. Can I drive it?", "How can I sleep better?",
)  # fmt: skip
"""Where the model writes too few."""
ANSWER_TOKENS = 64
FOLDS = 4
LEAST_AUROC = 0.6
"""Below which it is said that a vector tells next to nothing."""
MOST_TRAIT = 300
"""Characters of a sentence."""


def trait_vectors(
    candidates: Candidates, selection: Selection, answers: AnswerReader
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """A unit vector for each sentence, `[n_traits, width]`, and what artifacts say of each. Kept for as long as
    model, settings and seed are the same. Raises SaefilterError for a sentence that is none, or a model whose
    answers are the same either way."""
    options = selection.options
    new_tokens = min(options.max_new_tokens or ANSWER_TOKENS, answers.reader.context // 4)
    told = {
        "new_tokens": new_tokens,
        "temperature": options.temperature or 0.0,
        "seed": selection.seed,
    }
    learnt = []
    for trait in options.trait or ():
        if not trait.strip() or len(trait) > MOST_TRAIT:
            raise SaefilterError(
                f"--trait {trait[:40]!r} is no sentence of 1 to {MOST_TRAIT} characters",
                remedy="Say it as of somebody: --trait 'gives reckless advice'.",
            )
        known = kept_once(
            candidates, "trait",
            {**answers.depends_on, **told, "trait": trait, "asked": [INSTRUCTIONS, ASK, EVERYDAY]},
            partial(_learn, trait, answers, selection, new_tokens, candidates.watch),
        )  # fmt: skip
        learnt.append(known)
        if (area := known.about["held_out_auroc"]) is None or area < LEAST_AUROC:
            candidates.watch.say(
                f"The vector of {trait!r} hardly tells the model's own answers with the trait from those "
                f"without (AUROC {'unknown' if area is None else f'{area:.2f}'} on questions left out): "
                "the model may not follow such instructions"
            )
    vectors = np.stack([one.numbers for one in learnt]).astype(np.float32)
    return vectors, [one.about for one in learnt]


def slugs(traits: Sequence[str]) -> list[str]:
    """Short names for columns, each once: `gives reckless advice` -> `gives_reckless_advice`."""
    names: list[str] = []
    for number, trait in enumerate(traits, start=1):
        plain = unicodedata.normalize("NFKD", trait).encode("ascii", "ignore").decode().lower()
        name = "_".join(re.findall(r"[a-z0-9]+", plain))[:40].strip("_") or f"{number}"
        names.append(f"{name}_{number}" if name in names else name)
    return names


def asked_with(trait: str) -> list[tuple[str, str]]:
    """The instructions of both sides, trait first."""
    said = trait.strip().rstrip(".")
    return [(with_it.format(trait=said), without.format(trait=said))
            for with_it, without in INSTRUCTIONS]  # fmt: skip


def _learn(
    trait: str, answers: AnswerReader, selection: Selection, new_tokens: int, watch: Watch
) -> Learnt:
    watch.say(f"Learning the trait {trait!r} from the model's own answers; the vector is kept")
    temperature = selection.options.temperature or 0.0
    seed = selection.seed + int.from_bytes(blake2b(trait.encode(), digest_size=6).digest(), "big")
    own = _questions(answers.reader, trait, seed)
    questions = [*own, *(one for one in EVERYDAY if one not in own)][:N_QUESTIONS]
    sides = asked_with(trait)
    prompts: list[tuple[list[int], int]] = []
    for (number, question), pair in product(enumerate(questions), sides):
        shown = [_prompt(answers.reader, instruction, question) for instruction in pair]
        prompts += [
            (shortened(answers.reader, prompt, new_tokens), number)
            for prompt in shown
            if prompt is not None and all(one is not None for one in shown)
        ]
    if not prompts:
        raise SaefilterError("the model's chat template takes no question")
    written = own_answers(
        answers.reader, [prompt for prompt, _ in prompts], new_tokens, temperature, seed
    )
    windows: list[Window] = []
    bad, question_of = [], []
    for (with_it, answer), (without, other) in _pairs(prompts, written):
        if answer == other:
            continue  # the instruction changed nothing, so the two tell nothing
        windows += [answer_window(0, with_it[0], answer), answer_window(0, without[0], other)]
        bad += [True, False]
        question_of += [with_it[1], without[1]]
    if not windows:
        raise SaefilterError(
            f"the model answers alike whether it is told that it {trait!r} or not",
            remedy="Name another --model, say it otherwise, or give contrast rows.",
        )
    means, is_bad = answers.means(windows), np.array(bad)
    area = _held_out(means, is_bad, np.array(question_of))
    return Learnt(
        unit_difference(means, is_bad).astype(np.float64),
        {
            "trait": trait, "column": slugs([trait])[0], "questions": len(questions),
            "questions_by_the_model": min(len(own), len(questions)), "answers": len(windows),
            "held_out_auroc": None if area is None else round(area, 4),
        },
    )  # fmt: skip


def _pairs(prompts: Sequence[Any], written: Sequence[list[int]]) -> Iterator[Any]:
    """Two by two: the prompt with the trait and its answer, then without."""
    both = list(zip(prompts, written, strict=True))
    return zip(both[::2], both[1::2], strict=True)


def _held_out(means: Any, bad: NDArray[np.bool_], question: NDArray[np.int64]) -> float | None:
    """AUROC of answers to questions that the vector was not made of; None with too few."""
    fold = question % FOLDS
    if len(set(fold.tolist())) < FOLDS:
        return None
    value = np.zeros(len(bad))
    for number in range(FOLDS):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        vector = unit_difference(means[others], bad[others])
        projected = np.asarray(means[own] @ vector, dtype=np.float64).ravel()
        value[own] = projected - projected.mean()  # vectors of different folds have other middles
    return auroc(bad, value)


def _questions(reader: CausalReader, trait: str, seed: int) -> list[str]:
    """What the model writes when it is asked for questions, without what is none."""
    asked = ASK.format(n=N_QUESTIONS // 2, trait=trait.strip().rstrip("."))
    prompt = _prompt(reader, None, asked)
    if prompt is None:
        return []
    size = min(QUESTION_TOKENS, reader.context // 2)
    prompts = [shortened(reader, prompt, size)] * DRAWS
    written = own_answers(reader, prompts, size, QUESTION_TEMPERATURE, seed)
    texts = [reader.renderer.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
    return list(dict.fromkeys(question for text in texts for question in questions_in(text)))


def questions_in(text: str) -> list[str]:
    """The lines of a text that are questions, without numbers and dashes before them."""
    questions = []
    for line in text.splitlines():
        plain = re.sub(r"^[\s\d.)*\-:\"']+", "", line).strip(" \"'*")
        if plain.endswith("?") and 3 <= len(plain.split()) <= 40:
            questions.append(plain)
    return questions


def _prompt(
    reader: CausalReader, instruction: str | None, question: str
) -> NDArray[np.int64] | None:
    """Token ids up to where the answer begins; the instruction stands before the question where the template
    has no place for one of its own. None where it cannot be rendered."""
    turns = (Message("user", question), Message("assistant", "Yes."))
    forms: list[Conversation] = [turns]
    if instruction is not None:
        joined = Message("user", f"{instruction}\n\n{question}")
        forms = [(Message("system", instruction), *turns), (joined, turns[1])]
    for form in forms:
        _, windows = reader.renderer.render([form])
        if len(windows) == 1:
            return windows[0].ids[: int(np.flatnonzero(windows[0].scored)[0])]
    return None
