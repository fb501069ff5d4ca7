"""What features are called."""

from __future__ import annotations

import pytest

from saefilter.curate.labels import label_of
from saefilter.text import is_function_word

USUAL = {"the": 0.05, "they": 0.01, "them": 0.005, "lazy": 0.0001, "dole": 0.00005, "scam": 0.0002,
         "money": 0.001, "road": 0.0005}  # fmt: skip


def test_a_feature_of_content_words_is_called_by_what_it_has_more_of_than_the_text() -> None:
    words = {"the": 50.0, "scam": 20.0, "money": 10.0, "road": 0.4}
    assert label_of(words, [], USUAL) == "scam, money, road"


def test_function_words_never_name_a_feature_alone_where_anything_stands_around_them() -> None:
    words = {"they": 70.0, "them": 28.0, "lazy": 2.0}
    snippets = ["they live on the dole", "them and the dole", "they never work on the road"]
    assert label_of(words, snippets, USUAL) == "lazy, dole (around they, them)"
    assert label_of({"they": 1.0}, [], USUAL) == "they"
    assert label_of({"the": 1.0}, ["the one"], {}) == "the"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("they", True), ("don", True), ("ll", True), ("a", True), ("lazy", False), ("he'll", True)],
)
def test_function_words(word: str, expected: bool) -> None:
    assert is_function_word(word) is expected
