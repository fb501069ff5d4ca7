"""BERT's tokens without transformers are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import configs, save_model, small_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.rows.render import PlainRenderer, Tokens, load_tokenizer
from saefilter.rows.wordpiece import WordPieceTokenizer, tokenizer_for_rendering

PATH = load_preset("minilm").model_path()
OWN, TRANSFORMERS = tokenizer_for_rendering(PATH), load_tokenizer(PATH)


def tokens(tokenizer: Any, texts: list[str], *, split: bool) -> list[Tokens]:
    renderer = PlainRenderer(tokenizer, context=512)
    return renderer._encoded(texts, split_special_tokens=split)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.text() | st.lists(st.sampled_from(["[SEP]", "[CLS]", "naïve", "中文", "İ", "😀 ", "\x00"])).map("".join),
        max_size=4,
    ),
    st.booleans(),
)  # fmt: skip
def test_tokens_spans_and_control_tokens_agree(texts: list[str], split: bool) -> None:
    for own, other in zip(
        tokens(OWN, texts, split=split), tokens(TRANSFORMERS, texts, split=split), strict=True
    ):
        assert np.array_equal(own.ids, other.ids)
        assert np.array_equal(own.spans, other.spans)
        assert np.array_equal(own.special, other.special)


def test_what_stands_around_a_text_agrees() -> None:
    assert isinstance(OWN, WordPieceTokenizer)
    own, other = PlainRenderer(OWN, context=512), PlainRenderer(TRANSFORMERS, context=512)
    assert (own.prefix, own.suffix) == (other.prefix, other.suffix) == ([101], [102])
    assert sorted(OWN.all_special_ids) == sorted(TRANSFORMERS.all_special_ids)
    assert OWN.pad_token_id == TRANSFORMERS.pad_token_id
    ids = TRANSFORMERS("A word, and another.")["input_ids"]
    for skip in (False, True):
        assert OWN.decode(ids, skip_special_tokens=skip) == TRANSFORMERS.decode(
            ids, skip_special_tokens=skip
        )


def test_long_texts_are_not_cut() -> None:
    [found] = tokens(OWN, ["word " * 3000], split=True)
    assert len(found.ids) == 3000


def test_other_tokenizers_are_transformers(tmp_path: Path) -> None:
    save_model(configs()["llama"], tmp_path / "model", small_tokenizer(bos_token="<bos>"))
    found = tokenizer_for_rendering(str(tmp_path / "model"))
    assert found.bos_token_id is not None
    assert not isinstance(found, WordPieceTokenizer)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_a_clear_error(tmp_path: Path, name: str) -> None:
    for file in Path(PATH).iterdir():
        if file.suffix in (".json", ".txt") and file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert isinstance(tokenizer_for_rendering(str(tmp_path)), WordPieceTokenizer)
    (tmp_path / name).write_text((tmp_path / name).read_text(encoding="utf-8")[:100])
    with pytest.raises(SaefilterError, match="tokenizer"):
        tokenizer_for_rendering(str(tmp_path))
