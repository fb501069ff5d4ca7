from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import chat

from saefilter.columns import Columns
from saefilter.curate.sources import (
    bundled,
    columns_held,
    from_column,
    from_files,
)
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Message
from saefilter.rows.read import Source


def contents(conversations: list[tuple[Message, ...]]) -> list[str]:
    return [conversation[-1].content for conversation in conversations]


def test_two_files_leave_out_what_is_no_conversation(jsonl: Callable[..., Path]) -> None:
    toxic = jsonl([chat("q", "bad"), b"broken", {"id": 3}], "bad.jsonl")
    benign = jsonl([{"text": "fine"}], "good.jsonl")
    rows = from_files(Source.open(toxic), Source.open(benign))
    assert (contents(rows.toxic), contents(rows.benign)) == (["bad"], ["fine"])
    assert [(a["name"], a["side"], a["rows"]) for a in rows.about] == [
        ("bad.jsonl", "toxic", 1), ("good.jsonl", "benign", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "toxic", "benign"),
    [
        ([1, 0, 1], [0, 2], [1]),
        ([True, False, None], [0], [1]),
        (["toxic", "Benign", ""], [0], [1]),
        (["yes", "no", "1"], [0, 2], [1]),
    ],
)
def test_labels_tell_the_sides(
    jsonl: Callable[..., Path], values: list[object], toxic: list[int], benign: list[int]
) -> None:
    path = jsonl([{"text": str(i), "label": value} for i, value in enumerate(values)])
    rows = from_column(Source.open(path), "label")
    assert contents(rows.toxic) == [str(i) for i in toxic]
    assert contents(rows.benign) == [str(i) for i in benign]
    assert rows.toxic_score is None


def test_scores_are_kept_and_split_at_the_threshold(jsonl: Callable[..., Path]) -> None:
    path = jsonl([{"text": str(i), "toxicity": i / 10} for i in range(10)])
    rows = from_column(Source.open(path), "toxicity", 0.65)
    assert contents(rows.toxic) == ["7", "8", "9"]
    assert rows.toxic_score == [0.7, 0.8, 0.9]
    assert rows.benign_score == [i / 10 for i in range(7)]


def test_what_is_no_label_is_named_with_its_line(jsonl: Callable[..., Path]) -> None:
    source = Source.open(jsonl([{"text": "a", "label": 1}, {"text": "b", "label": "maybe"}]))
    with pytest.raises(SaefilterError, match=r"data\.jsonl:2: column 'label' holds 'maybe'"):
        from_column(source, "label")
    with pytest.raises(SaefilterError, match="no row has a value in column 'other'"):
        from_column(source, "other")


def test_bundled_pairs_ask_the_same_questions() -> None:
    rows = bundled()
    assert len(rows.toxic) == len(rows.benign) >= 600
    assert rows.group is not None
    topics = rows.group[: len(rows.toxic)]
    assert topics == rows.group[len(rows.toxic) :]
    assert len(set(topics)) == 12
    assert min(topics.count(topic) for topic in topics) >= 45
    for one, other in zip(rows.toxic, rows.benign, strict=True):
        assert one[:-1] == other[:-1]
        assert one[-1].content != other[-1].content


def test_bundled_answers_are_alike_in_what_is_no_content() -> None:
    """Length, punctuation and function words do not tell bad answers from good ones of other topics."""
    import re

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    from saefilter.stats.auroc import auroc

    rows = bundled()
    texts = [one[-1].content for one in rows.conversations()]
    words = [re.findall(r"[a-z']+", text.lower()) for text in texts]
    common = [
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "if",
        "of",
        "to",
        "in",
        "on",
        "at",
        "for",
        "with",
        "from",
        "by",
        "is",
        "are",
        "was",
        "be",
        "been",
        "it",
        "its",
        "this",
        "that",
        "you",
        "your",
        "i",
        "my",
        "me",
        "we",
        "they",
        "them",
        "he",
        "she",
        "his",
        "her",
        "not",
        "no",
        "do",
        "does",
        "don't",
        "will",
        "would",
        "can",
        "could",
        "should",
        "just",
        "only",
        "all",
        "so",
        "then",
        "than",
        "as",
        "what",
        "who",
        "how",
        "when",
        "there",
        "here",
        "have",
        "has",
        "had",
    ]
    form = [
        [len(text), *(text.count(mark) for mark in ".,;:!?\"()-\n"),
         *(one.count(word) / max(1, len(one)) for word in common)]
        for text, one in zip(texts, words, strict=True)
    ]  # fmt: skip
    bad = np.arange(len(texts)) < len(rows.toxic)
    # the newer pairs: those of the first 180 lean, on which the older sets were made
    newer = np.arange(len(texts)) % len(rows.toxic) >= 180
    features = StandardScaler().fit_transform(np.array(form, dtype=float))[newer]
    folds = np.array(rows.group)[newer]
    found = cross_val_predict(
        LogisticRegression(C=0.1, max_iter=500), features, bad[newer], groups=folds,
        cv=LeaveOneGroupOut(), method="decision_function",
    )  # fmt: skip
    assert auroc(bad[newer], found) < 0.65


def test_columns_of_other_names_are_read_where_an_input_has_them(
    jsonl: Callable[..., Path],
) -> None:
    def columns_of(source: Source) -> Columns:
        return columns_held(source, Columns.parse("prompt=frage,completion=antwort"))

    own = [{"frage": "q", "antwort": f"a {i}", "bad": i} for i in range(2)]
    toxic, benign = (
        Source.open(jsonl(own, "a.jsonl")),
        Source.open(jsonl([chat("q", "b")], "b.jsonl")),
    )
    rows = from_files(toxic, benign, None, columns_of)
    assert (contents(rows.toxic), contents(rows.benign)) == (["a 0", "a 1"], ["b"])
    rows = from_column(toxic, "bad", columns_of=columns_of)
    assert (contents(rows.toxic), contents(rows.benign)) == (["a 1"], ["a 0"])
