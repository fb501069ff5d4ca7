"""Which rows belong together: answers to one prompt, near-identical texts, variants of one template.

What is learnt from a row holds for its siblings without being true of anything else, so rows of one
group stay on one side of every split, and statistics count groups. Worked example:

    "I hate women."          these two differ in one word: one template, one group
    "I hate trans people."
    "What would you do as ruler of the world?" answered twice: one prompt, one group
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import ASSISTANT, TEXT, Conversation

WORD = re.compile(r"\w+")
SHORT = 20
"""Texts of at most so many words are looked at as templates: longer ones share a template's words with
so many of their kind that shingles show it."""
LONGEST_SLOT = 3
"""Words that a template's slot may hold."""
SHINGLE = 3
HASHES, BANDS = 64, 16
"""Of MinHash: texts that share 60 % of their shingles are joined in 9 of 10 cases, such that share
30 % in 1 of 10 (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3)."""
NONE = "none"
MIN_GROUPS = 5
"""Effective number of units that either side of a comparison needs for a p-value."""
MIN_RELABELLINGS = 100


@dataclass(frozen=True)
class Groups:
    """Which group each row is of."""

    label: NDArray[np.int64]
    """`0..n_groups-1`, `[n_rows]`."""
    by: str
    """What they were told by, as words."""
    copies: NDArray[np.int64]
    """Rows of nearly the same text, whatever the prompt, have the same number, `[n_rows]`."""

    @property
    def count(self) -> int:
        return int(self.label.max()) + 1 if len(self.label) else 0

    @property
    def effective(self) -> float:
        """How many groups of equal size say as much: `(sum n)^2 / sum n^2` over groups of `n` rows."""
        sizes = np.bincount(self.label).astype(np.float64)
        return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.label):,} rows in {self.count:,} groups ({self.by}), "
            f"as good as {self.effective:.0f} of equal size"
        )


def effective_groups(label: NDArray[np.int64]) -> float:
    """`Groups.effective` of labels `[n]` of any numbers."""
    number = np.unique(label, return_inverse=True)[1].ravel()
    return Groups(number, "", number).effective


def groups_by(values: Sequence[Hashable], by: str, conversations: Sequence[Conversation]) -> Groups:
    """Rows with equal values are a group; a row with None is one by itself."""
    numbers: dict[Hashable, int] = {}
    label = [
        numbers.setdefault(("row", i) if value is None else ("value", value), len(numbers))
        for i, value in enumerate(values)
    ]
    return Groups(np.array(label, dtype=np.int64), by, find_copies(conversations))


def independent(conversations: Sequence[Conversation]) -> Groups:
    """Every row by itself, because somebody says so; but copies of a text are one."""
    copies = find_copies(conversations)
    return Groups(copies, "each text by itself", copies)


def find_groups(conversations: Sequence[Conversation]) -> Groups:
    """Groups of rows with the same prompt, nearly the same text, or a text of the same template."""
    texts = [_texts(one) for one in conversations]
    joined = _Joined(len(texts))
    joined.by((i, prompt) for i, (prompt, _) in enumerate(texts) if prompt)
    joined.by((i, key) for i, (_, said) in enumerate(texts) for key in _shingle_bands(said))
    joined.by((i, key) for i, (_, said) in enumerate(texts) for key in _templates(said))
    by = "same prompt, near-identical text or one template"
    return Groups(joined.labels(), by, find_copies(conversations))


def find_copies(conversations: Sequence[Conversation]) -> NDArray[np.int64]:
    """Rows of nearly the same text, whatever the prompt, have the same number, `[n_rows]`."""
    joined = _Joined(len(conversations))
    joined.by(
        (i, key) for i, one in enumerate(conversations) for key in _shingle_bands(_texts(one)[1])
    )
    return joined.labels()


def _texts(conversation: Conversation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of the prompt, up to the first answer, and of what is said after it."""
    prompt: list[str] = []
    said: list[str] = []
    for message in conversation:
        if message.role in (ASSISTANT, TEXT) or said:
            said += WORD.findall(message.spoken.lower())
        elif message.role == "user":  # a system prompt is often that of every row
            prompt += WORD.findall(message.content.lower())
    return tuple(prompt), tuple(said)


def _templates(words: tuple[str, ...]) -> Iterator[tuple[int, Hashable]]:
    """A short text with a slot in place of some of its words, each way: where the slot is, and the rest.

    i hate women  ->  (0, "hate women"), (1, "i women"), (2, "i hate")
    """
    n = len(words)
    if not 2 < n <= SHORT:
        return
    for length in range(1, LONGEST_SLOT + 1):
        if n - length < max(2, length + (length > 2)):
            break
        for start in range(n - length + 1):
            yield start, (words[:start], words[start + length :])


def _shingle_bands(words: tuple[str, ...]) -> Iterator[Hashable]:
    """Keys of which near-identical texts share one with high probability; very short texts are compared
    as they are."""
    if len(words) < SHINGLE:
        yield words
        return
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}
    hashed = np.array([zlib.crc32(one.encode()) for one in shingles], dtype=np.uint64)
    # ax + b over 64 bits, the top half kept: one cheap, well-mixed permutation per hash
    least = ((hashed[:, None] * _FACTORS + _TERMS) >> np.uint64(32)).min(axis=0)
    width = HASHES // BANDS
    for band in range(BANDS):
        yield band, least[band * width : (band + 1) * width].tobytes()


_DRAWS = np.random.default_rng(0).integers(1, 2**63, (2, HASHES), dtype=np.uint64)
_FACTORS, _TERMS = _DRAWS[0] | np.uint64(1), _DRAWS[1]


@dataclass(frozen=True)
class Units:
    """What is relabelled and resampled as one where data are compared with a reference.

    A group that lies in one of them alone is a unit, and so is each text of a group that lies in both
    (one prompt answered in both, say), which trades places within that group only.
    """

    number: NDArray[np.int64]
    """Of each row, `0..n_units-1`, `[n_rows]`."""
    is_data: NDArray[np.bool_]
    """`[n_units]`"""
    stratum: NDArray[np.int64]
    """Units trade labels within it: 0 for whole groups, one more for each group that lies in data and
    reference; `[n_units]`."""
    count: NDArray[np.float64]
    """Rows, `[n_units]`."""

    @classmethod
    def of(
        cls, is_data: NDArray[np.bool_], group: NDArray[np.int64], copies: NDArray[np.int64]
    ) -> Units:
        """From what each row is, `[n_rows]`: its side, its group, and which rows are one text."""
        _, group = np.unique(group, return_inverse=True)
        group = group.ravel()
        rate = np.bincount(group, is_data) / np.bincount(group)
        shared = ((rate > 0) & (rate < 1))[group]
        text = np.where(shared, copies, -1)
        keys, number = np.unique(np.stack([group, text, is_data]), axis=1, return_inverse=True)
        number = number.ravel()
        stratum = np.zeros(keys.shape[1], dtype=np.int64)
        stratum[number[shared]] = group[shared] + 1
        return cls(number, keys[2].astype(bool), stratum, np.bincount(number).astype(np.float64))

    def effective(self, is_data: bool) -> float:
        """How many units of equal size say as much as those of one side."""
        size = self.count[self.is_data == is_data]
        return float(size.sum() ** 2 / (size**2).sum()) if len(size) else 0.0

    @property
    def enough(self) -> bool:
        """Whether there are enough units, and ways to relabel them, for a p-value."""
        ways = 0.0
        for stratum in np.unique(self.stratum):
            of_data = self.is_data[self.stratum == stratum]
            n, k = len(of_data), int(of_data.sum())
            ways += math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        few = min(self.effective(True), self.effective(False))
        return few >= MIN_GROUPS and ways >= math.log(MIN_RELABELLINGS)

    def relabelled(self, draws: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which units are called data, each stratum keeping its number of them, `[draws, n_units]`."""
        labels = np.tile(self.is_data, (draws, 1))
        for stratum in np.unique(self.stratum):
            members = np.flatnonzero(self.stratum == stratum)
            labels[:, members] = rng.permuted(labels[:, members], axis=1)
        return labels

    def split_by_topic(
        self, place: NDArray[np.float64], draws: int, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Units on one side of a split along what tells two units of one side apart, with about as many
        rows as the data have, `[draws, n_units]`. `place`: of each unit in the model's space,
        `[n_units, d_model]`."""
        place = self.within(place)
        share = self.count[self.is_data].sum() / self.count.sum()
        chance = {side: self.count * (self.is_data == side) for side in (True, False)}
        labels = np.zeros((draws, len(self.count)), dtype=bool)
        for label in labels:
            weight = chance[bool(rng.random() < share)]
            one, other = rng.choice(len(weight), 2, replace=False, p=weight / weight.sum())
            order = np.argsort(-(place @ (place[one] - place[other])), kind="stable")
            rows = np.cumsum(self.count[order])
            taken = int(np.abs(rows - share * rows[-1]).argmin()) + 1
            label[order[: min(taken, len(order) - 1)]] = True
        return labels

    def within(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Less the mean of the stratum, over rows: what a group that lies in both has in common is not
        what tells its rows apart."""
        number = np.unique(self.stratum, return_inverse=True)[1].ravel()
        from scipy import sparse  # choosing and comparing start without it

        members = sparse.csr_matrix((self.count, (number, np.arange(len(number)))))
        mean = (members @ place) / np.bincount(number, self.count)[:, None]
        centred: NDArray[np.float64] = place - mean[number]
        return centred

    def resampled(self, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """How often a bootstrap draw holds each unit, `[draws, n_units]`: groups that lie in both sides are
        drawn, and then units of either side within each."""
        times = np.zeros((draws, len(self.count)))
        shared = np.unique(self.stratum[self.stratum > 0])
        often = {0: np.ones(draws, dtype=np.int64)} if (self.stratum == 0).any() else {}
        if n := len(shared):
            picked = rng.multinomial(n, np.full(n, 1 / n), draws)
            often |= dict(zip(shared.tolist(), picked.T, strict=True))
        for stratum, repeats in often.items():
            for side in (True, False):
                members = np.flatnonzero((self.stratum == stratum) & (self.is_data == side))
                if len(members):
                    share = np.full(len(members), 1 / len(members))
                    times[:, members] = rng.multinomial(repeats * len(members), share)
        return times


class _Joined:
    """Rows that are joined, directly or through others (union-find)."""

    def __init__(self, n_rows: int):
        self._parent = list(range(n_rows))

    def by(self, keys: Iterable[tuple[int, Hashable]]) -> None:
        """Join the rows that have a key in common."""
        first: dict[Hashable, int] = {}
        for row, key in keys:
            self._join(row, first.setdefault(key, row))

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parent[max(one, other)] = min(one, other)

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def labels(self) -> NDArray[np.int64]:
        roots = np.array([self._root(row) for row in range(len(self._parent))], dtype=np.int64)
        return np.unique(roots, return_inverse=True)[1].astype(np.int64).ravel()
