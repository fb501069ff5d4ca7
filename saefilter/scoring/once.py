"""Read no more of a shard's rows than is needed: equal texts once, nothing after a text's last scored token
where the model does not look ahead; where they are asked for, near-identical rows once, and of long texts a
sample of the tokens.

Within a shard, since a shard is what is scored anywhere, in any order, and comes out the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.encode.encoded import Encoded, TokenScore
from saefilter.encode.sample import by_text, digest_of, ended, sampled
from saefilter.rows.rendered import RenderedRow, Window
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from saefilter.encode.encoder import Encoder
    from saefilter.scoring.prepare import Prepared
    from saefilter.settings import ScoreSettings

SIGNS = "#%&/@\\"
"""That Unicode counts as punctuation, and which tell C# from C."""
_DIGITS = re.compile(r"\d+")


class _Apart(dict[int, str]):
    """For `str.translate`: punctuation becomes a space. Signs such as + or an emoji do not, and neither do
    marks: in Hindi or Thai a word's vowels are marks, in code a line differs from another by a sign."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        apart = unicodedata.category(letter).startswith("P") and letter not in SIGNS
        self[code] = " " if apart else letter
        return self[code]


_APART = _Apart()


@dataclass(frozen=True)
class Once:
    """Which texts of some rows are read, and which take the results of another one."""

    source: NDArray[np.int64]
    """The text that is read for each, itself where it is, `[n_texts]`."""
    read_as: list[int | None]
    """Position of the row that each row is nearly identical to and was read as; None where its own text
    was read, or one with the same tokens, `[n_rows]`."""

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """`[n_texts]`"""
        read: NDArray[np.bool_] = self.source == np.arange(len(self.source))
        return read


def read_once(
    encoder: Encoder,
    prepared: Prepared,
    settings: ScoreSettings,
    encoding: dict[str, Any],
    advance: Callable[[int], None] | None = None,
) -> tuple[Encoded, list[int | None]]:
    """What encoding all texts of some rows gives, with as few of them read as the settings allow; and
    `Once.read_as`. `encoding` is what `Encoder.encode` is told. Raises SaefilterError as it does.

    A text with the tokens of another has its results to the last digit. `Encoded.n_tokens` counts the
    tokens that the SAE read.
    """
    texts = by_text(prepared.windows, prepared.texts)
    cut = encoder.cuts_ends()
    if cut:
        texts = [[ended(window) for window in own] for own in texts]
    once = plan(prepared, texts, near=settings.near_duplicates)
    left_out = 0
    windows: list[Window] = []
    for own, is_read in zip(texts, once.is_read.tolist(), strict=True):
        if not is_read:
            continue
        kept: Sequence[Window] = own
        if settings.max_scored_tokens is not None:
            kept = sampled(own, settings.max_scored_tokens, cut=cut)
            left_out += _scored(own) - _scored(kept)
        windows += kept
    encoded = encoder.encode(windows, prepared.texts, **encoding, advance=advance)
    counted = Tally(
        left_out=left_out,
        repeated=sum(
            len(window.ids)
            for own, is_read in zip(texts, once.is_read.tolist(), strict=True)
            for window in (() if is_read else own)
        ),
    )
    return replace(_spread(encoded, once, texts), tally=encoded.tally + counted), once.read_as


def plan(prepared: Prepared, texts: Sequence[Sequence[Window]], *, near: bool) -> Once:
    """Which of the texts, `[n_texts]`, are to be read: the first of those that are equal; with `near`
    the first of those rows that are nearly so, both answers of a pair or neither."""
    n = len(prepared)
    digests = [digest_of(own) if own else None for own in texts]
    leader = _leaders(prepared, texts) if near else list(range(n))
    source = np.arange(len(texts))
    first: dict[bytes, int] = {}
    for place, digest in enumerate(digests):
        if digest is not None and leader[place % n] == place % n:
            source[place] = first.setdefault(digest, place)
    read_as: list[int | None] = [None] * n
    for row, other in enumerate(leader):
        if other != row:
            source[row::n] = source[other::n]
            read_as[row] = other if digests[row::n] != digests[other::n] else None
    return Once(source, read_as)


def _leaders(prepared: Prepared, texts: Sequence[Sequence[Window]]) -> list[int]:
    """For each row the first one that is nearly identical to it, or itself, `[n_rows]`."""
    n = len(prepared)
    first: dict[Hashable, int] = {}
    leader = list(range(n))
    for row in range(n):
        places = range(row, len(texts), n)
        if all(texts[place] for place in places):
            key = tuple(normal_form(_rendered(prepared, place), texts[place]) for place in places)
            if all(scored for _, scored in key):  # of punctuation alone nothing is left to be alike
                leader[row] = first.setdefault(key, row)
    return leader


def normal_form(text: RenderedRow, windows: Sequence[Window]) -> tuple[str, str]:
    """What nearly identical texts have in common: the words of the whole text and of what is scored of
    it, whatever their case, what stands between them, and which numbers they name."""
    scored = []
    for window in windows:
        edges = np.flatnonzero(np.diff(window.scored, prepend=False, append=False))
        for first, end in edges.reshape(-1, 2).tolist():  # stretches of scored tokens
            scored.append(text.text[window.spans[first, 0] : window.spans[end - 1, 1]])
    return _words(text.text), _words(" ".join(scored))


def _words(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APART)
    return _DIGITS.sub("0", " ".join(plain.split()))


def _rendered(prepared: Prepared, place: int) -> RenderedRow:
    n = len(prepared)
    side = prepared.rendered if place < n else prepared.rejected
    text = side[place % n] if side is not None else None
    assert text is not None  # it has windows
    return text


def _scored(windows: Sequence[Window]) -> int:
    return sum(int(np.count_nonzero(window.scored)) for window in windows)


def _spread(encoded: Encoded, once: Once, texts: Sequence[Sequence[Window]]) -> Encoded:
    """The results of what was read, for all texts. One that was not read has no words of its own as
    evidence, unless its tokens are those that were."""
    if once.is_read.all():
        return encoded
    top_tokens = []
    n = len(once.read_as)
    for place, of in enumerate(once.source.tolist()):
        tokens = encoded.top_tokens[of]
        if place != of and once.read_as[place % n] is not None:
            tokens = []
        elif place != of:
            tokens = _moved(tokens, texts[of], texts[place])
        top_tokens.append(tokens)
    return replace(
        encoded,
        features=encoded.features[once.source],
        residual=encoded.residual[once.source],
        n_tokens=encoded.n_tokens[once.source],
        top_tokens=top_tokens,
    )


def _moved(
    tokens: list[list[TokenScore]], read: Sequence[Window], own: Sequence[Window]
) -> list[list[TokenScore]]:
    """Tokens of one text where the same tokens stand in another: white space and, for some tokenizers,
    case may differ."""
    before, after = (np.concatenate([window.spans for window in some]) for some in (read, own))
    if np.array_equal(before, after):
        return tokens
    place = {tuple(one): other for one, other in zip(before.tolist(), after.tolist(), strict=True)}
    moved = []
    for some in tokens:
        spans = [place[token.start, token.end] for token in some]
        pairs = zip(some, spans, strict=True)
        moved.append([TokenScore(start, end, one.score) for one, (start, end) in pairs])
    return moved
