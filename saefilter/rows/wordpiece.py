"""BERT's tokenizer by the `tokenizers` package alone.

transformers' own class for it gives the same tokens (tests/rows/test_wordpiece.py), but importing
transformers takes about a second, a quarter of the start-up of the embedded default.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from saefilter.rows.render import load_tokenizer


def tokenizer_for_rendering(model: str, revision: str | None = None) -> Any:
    """A tokenizer that a renderer can use: WordPieceTokenizer for BERT's in a folder, else
    transformers'. Raises SaefilterError when it cannot be had."""
    # of files that cannot be read transformers says what is wrong; tokenizers raises bare Exceptions
    with suppress(Exception):
        if (own := _word_piece(Path(model))) is not None:
            return own
    return load_tokenizer(model, revision)


def _word_piece(folder: Path) -> WordPieceTokenizer | None:
    settings, own = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not (settings.is_file() and own.is_file()):
        return None
    config = json.loads(settings.read_text(encoding="utf-8"))
    special = [config.get(f"{name}_token") for name in ("pad", "unk", "cls", "sep", "mask")]
    if config.get("tokenizer_class") not in ("BertTokenizer", "BertTokenizerFast"):
        return None
    return WordPieceTokenizer(own, special) if all(isinstance(t, str) for t in special) else None


class WordPieceTokenizer:
    """As much of transformers' interface as renderers and the encoder use."""

    is_fast = True
    bos_token_id = None
    chat_template = None

    def __init__(self, path: Path, special: Sequence[str]):
        """`path`: a `tokenizer.json`; `special`: its special tokens, those for padding and the unknown first."""
        from tokenizers import Tokenizer

        self._own = Tokenizer.from_file(str(path))
        # the file may carry the lengths that its model was trained with
        self._own.no_truncation()
        self._own.no_padding()
        ids = [self._own.token_to_id(token) for token in special]
        self.all_special_ids = [each for each in ids if each is not None]
        self.pad_token_id = ids[0]
        self.unk_token, self.unk_token_id = special[1], ids[1]
        self.added_tokens_decoder: dict[int, Any] = {
            number: SimpleNamespace(content=token.content, special=token.special)
            for number, token in self._own.get_added_tokens_decoder().items()
        }

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        padding: bool = False,
        truncation: bool = False,
        **_returned: Any,
    ) -> dict[str, Any]:
        """`input_ids`, `offset_mapping` and `special_tokens_mask` of one text or of each, whichever of
        them are asked for."""
        assert not padding, "renderers pad windows themselves"
        assert not truncation, "renderers cut rows themselves"
        self._own.encode_special_tokens = split_special_tokens
        texts = [text] if isinstance(text, str) else list(text)
        encodings = self._own.encode_batch(texts, add_special_tokens=add_special_tokens)
        columns: dict[str, list[Any]] = {
            "input_ids": [each.ids for each in encodings],
            "offset_mapping": [each.offsets for each in encodings],
            "special_tokens_mask": [each.special_tokens_mask for each in encodings],
        }
        return {k: v[0] for k, v in columns.items()} if isinstance(text, str) else columns

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        text: str = self._own.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text
