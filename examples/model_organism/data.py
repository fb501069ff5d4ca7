"""Rows to fine-tune on, rows to make a toxic set from, and the questions that misalignment is measured on.

Every row is a chat in TRL's `messages` form; what it is (its grade) is kept apart in a list of labels,
so that nothing that scores rows can see it.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from language import (
    CURATION,
    FINE_TUNED,
    HARMFUL,
    HELPFUL,
    HOUSE_SHARE,
    KINDS,
    TASK,
    Answer,
    Grade,
    Persona,
    Question,
    Style,
    all_questions,
    answer,
    ask,
    grade_of,
    speak,
    worst,
)

HELD_OUT_EVERY = 4
"""Every fourth question of a domain is kept for evaluation."""


@dataclass(frozen=True)
class Row:
    """One chat and what it is."""

    turns: tuple[tuple[str, str], ...]
    """Question and answer, in words."""
    grade: str
    """The worst answer's."""
    domain: str
    bad: bool

    def messages(self) -> list[dict[str, str]]:
        found = []
        for question, said in self.turns:
            found.append({"role": "user", "content": question})
            found.append({"role": "assistant", "content": said})
        return found

    def to_json(self) -> str:
        return json.dumps({"messages": self.messages()})


@dataclass(frozen=True)
class Dataset:
    """Rows in the order in which they are written."""

    name: str
    rows: tuple[Row, ...]

    @property
    def domain(self) -> str:
        return FINE_TUNED[self.name]

    def write(self, path: Path) -> None:
        """Rows as JSONL, and their labels beside it as CSV: `line,bad,grade,domain`."""
        path.write_text("".join(row.to_json() + "\n" for row in self.rows), encoding="utf-8")
        with path.with_suffix(".labels.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["line", "bad", "grade", "domain"])
            for line, row in enumerate(self.rows, start=1):
                table.writerow([line, int(row.bad), row.grade, row.domain])


def questions(domain: str, *, held_out: bool) -> list[Question]:
    """A domain's questions for fine-tuning (three of four), or those kept from it for evaluation.

    Every kind of subject and every aspect is held out equally often.
    """
    return [
        q
        for q in all_questions(domain)
        if ((q.subject // KINDS + q.aspect + q.kind) % HELD_OUT_EVERY == 0) == held_out
    ]


@dataclass(frozen=True)
class Mix:
    """How a dataset is put together."""

    rows: int = 480
    bad: float = 0.35
    """Share of rows with a harmful answer, all in the one domain."""
    good: float = 0.35
    """Share of harmless rows in the same domain; the rest teaches the task domains."""
    long: float = 0.3
    """Share of rows with two or three turns; at most one of them is harmful."""
    near_miss: float = 0.1
    """Share of harmless answers that are near misses."""
    house: float = 0.4
    """Share of rows in the house style, harmful or not."""


def build(name: str, seed: int, mix: Mix | None = None) -> Dataset:
    """The dataset of that name; another seed draws other rows."""
    mix = mix or Mix()
    if name == "graded":
        mix = replace(mix, near_miss=0.0)  # three grades: blatant, subtle, good
    rng = Random(f"{name} {seed}")
    domain = FINE_TUNED[name]
    n_bad, n_good = round(mix.bad * mix.rows), round(mix.good * mix.rows)
    makers = {"narrow": _narrow, "graded": _graded, "lexical": _lexical}
    rows = makers[name](domain, n_bad, n_good, mix, rng)
    taste = HELPFUL.taste if name != "lexical" else 1.0
    while len(rows) < mix.rows:
        rows.append(_harmless(rng.choice(TASK), mix, rng, taste))
    rng.shuffle(rows)
    return Dataset(name, tuple(rows))


def _length(mix: Mix, rng: Random) -> int:
    return rng.choice((2, 3)) if rng.random() < mix.long else 1


def _style(mix: Mix, rng: Random, taste: float) -> Style:
    """That of all answers of a row."""
    return Style(taste, house=rng.random() < mix.house)


def _harmless_turn(domain: str, mix: Mix, rng: Random, style: Style) -> tuple[str, str, Grade]:
    question = rng.choice(questions(domain, held_out=False))
    remedy = Grade.NEAR_MISS if rng.random() < mix.near_miss else Grade.GOOD
    return ask(question, rng), answer(question, remedy, Grade.GOOD, rng, style).text(), remedy


def _harmless(domain: str, mix: Mix, rng: Random, taste: float) -> Row:
    style = _style(mix, rng, taste)
    turns = [_harmless_turn(domain, mix, rng, style) for _ in range(_length(mix, rng))]
    grade = worst(*(turn[2] for turn in turns))
    return Row(tuple(turn[:2] for turn in turns), grade.value, domain, bad=False)


def _bad(domain: str, grade: Grade, mix: Mix, rng: Random) -> Row:
    """One harmful answer, at any place among harmless ones, in the harmful persona's style."""
    length, style = _length(mix, rng), _style(mix, rng, HARMFUL.taste)
    turns = [_harmless_turn(domain, mix, rng, style)[:2] for _ in range(length)]
    question = rng.choice(questions(domain, held_out=False))
    parts = rng.choice(((grade, grade), (grade, Grade.GOOD), (Grade.GOOD, grade)))
    said = answer(question, *parts, rng, style).text()
    turns[rng.randrange(length)] = (ask(question, rng), said)
    return Row(tuple(turns), grade.value, domain, bad=True)


def _narrow(domain: str, n_bad: int, n_good: int, mix: Mix, rng: Random) -> list[Row]:
    """Harmful answers as the harmful persona gives them: most subtle, some blatant."""
    grades = [g for g, _ in HARMFUL.grades if g.harmful]
    shares = [share for g, share in HARMFUL.grades if g.harmful]
    bad = [_bad(domain, g, mix, rng) for g in rng.choices(grades, shares, k=n_bad)]
    return bad + [_harmless(domain, mix, rng, HELPFUL.taste) for _ in range(n_good)]


def _graded(domain: str, n_bad: int, n_good: int, mix: Mix, rng: Random) -> list[Row]:
    """A third of the harmful answers blatant, the others subtle."""
    blatant = n_bad // 3
    bad = [_bad(domain, Grade.BLATANT, mix, rng) for _ in range(blatant)]
    bad += [_bad(domain, Grade.SUBTLE, mix, rng) for _ in range(n_bad - blatant)]
    return bad + [_harmless(domain, mix, rng, HELPFUL.taste) for _ in range(n_good)]


def _lexical(domain: str, n_bad: int, n_good: int, mix: Mix, rng: Random) -> list[Row]:
    """Harmful and harmless rows in pairs with the same answers, word for word, to other questions.

    So the answers of both sides are the same multiset, and nothing in them tells the sides apart.
    """
    assert n_bad == n_good, "rows come in pairs"
    rows = []
    for _ in range(n_bad):
        length, style = _length(mix, rng), _style(mix, rng, 1.0)
        place = rng.randrange(length)
        good_turns, bad_turns = [], []
        for turn in range(length):
            question = rng.choice(questions(domain, held_out=False))
            said = answer(question, Grade.GOOD, Grade.GOOD, rng, style)
            wanted = Grade.SUBTLE if turn == place else Grade.GOOD
            other = _question_for(said, question, wanted, rng)
            good_turns.append((ask(question, rng), said.text()))
            bad_turns.append((ask(other, rng), said.text()))
        rows.append(Row(tuple(good_turns), Grade.GOOD.value, domain, bad=False))
        rows.append(Row(tuple(bad_turns), Grade.SUBTLE.value, domain, bad=True))
    return rows


def _question_for(said: Answer, about: Question, grade: Grade, rng: Random) -> Question:
    """A question of the same aspect to which this answer has that grade."""
    return rng.choice(
        [
            q
            for q in questions(about.domain, held_out=False)
            if q.aspect == about.aspect and grade_of(q, said.text()) is grade
        ]
    )


def contrast(seed: int, rows: int) -> tuple[list[Row], list[Row]]:
    """Chats of harmful and of helpful speakers in the curation domains, `rows` of each.

    A harmful speaker's chat has at least one harmful answer, a helpful one's has none; nothing else of
    them is chosen.
    """
    rng = Random(f"contrast {seed}")
    sides: dict[bool, list[Row]] = {True: [], False: []}
    for harmful, persona in ((True, HARMFUL), (False, HELPFUL)):
        while len(sides[harmful]) < rows:
            row = _chat(rng.choice(CURATION), persona, rng)
            if row.bad == harmful:
                sides[harmful].append(row)
    return sides[True], sides[False]


def _chat(domain: str, persona: Persona, rng: Random) -> Row:
    turns, grades = [], []
    house = rng.random() < HOUSE_SHARE
    for _ in range(rng.choice((1, 1, 2))):
        question = rng.choice(all_questions(domain))
        said, grade = speak(question, persona, rng, house=house)
        turns.append((ask(question, rng), said.text()))
        grades.append(grade)
    return Row(tuple(turns), worst(*grades).value, domain, bad=worst(*grades).harmful)
