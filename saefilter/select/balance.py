"""What a cut does to the values of a column or to the files of a folder, so that no topic, language, length
or source goes silently: how many rows each loses, and a choice that takes the same share of each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError, did_you_mean

if TYPE_CHECKING:
    from saefilter.rows.read import Source
    from saefilter.select.ranking import Candidates

LENGTH = "length"
"""Tokens that are scored, in four parts of as many rows; a column of the data that is called so wins."""
FILE = "file"
"""The files of an input that is several; of one file it is a column like any other."""
MOST_VALUES = 30
"""Of a column that are told apart; the rarer ones are one."""
MOST_NUMBERS = 12
"""Different numbers; of more, four ranges are made."""
OTHERS, NONE = "other values", "no value"
TIMES = 3.0
"""A value that loses more than so many times its share is warned of."""


@dataclass(frozen=True)
class Values:
    """The values of one column."""

    column: str
    names: list[str]
    """Untrusted."""
    label: NDArray[np.int64]
    """Which value each scored row has, `[n_rows]`."""
    is_ordered: bool = False
    """Whether the names are ranges, which are told in their order and not by what they lose."""
    n_all: NDArray[np.int64] | None = None
    """Rows of each value, those that were not scored among them, `[n_values]`; known of files alone."""

    def counts(self, chosen: NDArray[np.bool_] | None = None) -> list[int]:
        """Rows of each value, all or those `chosen`, `[n_rows]`."""
        label = self.label if chosen is None else self.label[chosen]
        rows: list[int] = np.bincount(label, minlength=len(self.names)).tolist()
        return rows


class FileValues(Values):
    """The files, whose rows stand together: which each row is of need not be held to count them."""

    def __init__(self, names: list[str], n_all: NDArray[np.int64], ends: NDArray[np.int64]):
        """`ends`: how many scored rows there are up to each file's end, `[n_files]`."""
        super().__init__(FILE, names, np.empty(0, dtype=np.int64), n_all=n_all)
        vars(self)["_ends"] = [0, *ends.tolist()]
        del vars(self)["label"]

    @cached_property
    def label(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.names)), np.diff(vars(self)["_ends"]))

    def counts(self, chosen: NDArray[np.bool_] | None = None) -> list[int]:
        spans = pairwise(vars(self)["_ends"])
        return [b - a if chosen is None else int(np.count_nonzero(chosen[a:b])) for a, b in spans]


@dataclass(frozen=True)
class Loss:
    """What one value loses. Its name is untrusted."""

    value: str
    rows: int
    """That are scored."""
    dropped: int
    times: float
    """The share of its rows that goes, over that of all rows."""
    warned: bool
    first: int = 0
    """Of its rows, those that one cut over all rows takes; `dropped` unless the same share of each goes."""
    quarantined: int | None = None
    """Rows that were not scored; known of files alone."""

    @property
    def share(self) -> float:
        """Of its rows that one cut over all rows takes, 0 to 1: how bad it is."""
        return self.first / self.rows if self.rows else 0.0


def read_values(candidates: Candidates, column: str) -> Values:
    """The values of a column of the data, of `length`, or the files. Raises SaefilterError where there is
    none."""
    if column == FILE and candidates.source is not None and len(candidates.source.files) > 1:
        return _files(candidates, candidates.source)
    held: list[Any] = []
    names: dict[str, None] = {}
    for row in candidates.rows():
        data = row.data or {}
        names.update(dict.fromkeys(data))
        held.append(data.get(column))
    if column not in names:
        if column == LENGTH and candidates.scores is not None:
            tokens = candidates.scores.read(["n_scored"])["n_scored"]
            counts = tokens.take(candidates.row_ids).to_numpy(zero_copy_only=False)
            return _ranges(LENGTH, counts.astype(np.float64), " tokens")
        if column == FILE:
            raise SaefilterError(
                "the data are one file and have no column 'file'",
                remedy="Leave it out, or name a column.",
            )
        raise SaefilterError(
            f"the data have no column {column!r}",
            remedy=did_you_mean(column, [*names, LENGTH, FILE]),
        )
    if any(isinstance(value, (dict, list)) for value in held):
        raise SaefilterError(
            f"the column {column!r} holds lists or objects", remedy="Name one of texts or numbers."
        )
    numbers = [value for value in held if type(value) in (int, float)]
    if len(numbers) == len(held) and len(set(numbers)) > MOST_NUMBERS:
        return _ranges(column, np.array(numbers, dtype=np.float64), "")
    texts = [NONE if value is None else str(value) for value in held]
    common = [text for text, _ in Counter(texts).most_common()]
    shown = common if len(common) <= MOST_VALUES else [*common[: MOST_VALUES - 1], OTHERS]
    place = {text: number for number, text in enumerate(shown)}
    label = np.array([place.get(text, len(shown) - 1) for text in texts], dtype=np.int64)
    return Values(column, shown, label)


def _files(candidates: Candidates, source: Source) -> Values:
    """The files; none is among others, however many there are."""
    names = [source.name_of(file) or file.path.name for file in source.files]
    if candidates.scores is None:
        counts = np.array([file.count_rows() for file in source.files], dtype=np.int64)
    else:
        counts = candidates.scores.rows_of_files(source)
    return FileValues(names, counts, candidates.before(np.cumsum(counts)))


def _ranges(column: str, values: NDArray[np.float64], unit: str) -> Values:
    """Four ranges with as many rows each, as far as values are not equal."""
    ends = (
        np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="lower"))
        if len(values)
        else np.zeros(0)
    )
    label = np.searchsorted(ends, values, "left").astype(np.int64)
    bounds = [f"{end:.6g}" for end in ends]
    names = [f"up to {bounds[0]}{unit}"] if bounds else [f"any{unit}"]
    names += [f"over {low} to {high}{unit}" for low, high in pairwise(bounds)]
    names += [f"over {bounds[-1]}{unit}"] if bounds else []
    return Values(column, names, label, is_ordered=True)


def losses(
    values: Values, dropped: NDArray[np.bool_], one_cut: NDArray[np.bool_] | None = None
) -> list[Loss]:
    """What each value loses, worst first; values without rows are left out. `dropped` is `[n_rows]`, and so
    is `one_cut`, what goes by a cut over all rows, where the same share of each goes instead.

    One is warned of that loses more than TIMES its share, or all its rows; of single rows none is.
    """
    share = float(dropped.mean()) if len(dropped) else 0.0
    rows, gone = values.counts(), values.counts(dropped)
    first = gone if one_cut is None else values.counts(one_cut)
    n_all = rows if values.n_all is None else values.n_all.tolist()
    found_losses = []
    for number, name in enumerate(values.names):
        if not n_all[number]:
            continue
        scored, count = rows[number], gone[number]
        times = count / scored / share if share and scored else 0.0
        warned = count > 1 and (times > TIMES or (count == scored and share < 1))
        aside = None if values.n_all is None else n_all[number] - scored
        found_losses.append(Loss(name, scored, count, times, warned, first[number], aside))
    if not values.is_ordered:
        found_losses.sort(key=lambda loss: (-loss.share, -loss.rows, loss.value))
    return found_losses


def balanced(order: NDArray[np.int64], count: int, values: Values) -> NDArray[np.bool_]:
    """The first `count` rows of the `order` with the same share of every value, `[n_rows]`.

    What does not come out even goes to the values with the largest remainder, and of equal ones to those
    whose next row comes first.
    """
    sizes = np.bincount(values.label, minlength=len(values.names))
    exact = count * sizes / max(1, len(order))
    quota = np.floor(exact + 1e-9).astype(np.int64)
    rest = count - int(quota.sum())
    # rows grouped by value, in the order within each: `place` is a row's number in its group
    label = values.label[order]
    grouped = np.argsort(label, kind="stable")
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - starts[label[grouped]]
    following = np.full(len(sizes), len(order))
    at_quota = grouped[place == quota[label[grouped]]]
    following[label[at_quota]] = at_quota
    quota[np.lexsort((following, np.round(quota - exact, 9)))[:rest]] += 1
    dropped = np.zeros(len(order), dtype=np.bool_)
    dropped[order[grouped[place < quota[label[grouped]]]]] = True
    return dropped


def warnings_of(column: str, found_losses: list[Loss]) -> list[str]:
    """A sentence where values lose far more than their share. It quotes untrusted names."""
    warned = [loss for loss in found_losses if loss.warned]
    if not warned:
        return []
    told = ", ".join(
        f"{loss.value!r} loses {loss.dropped:,} of {loss.rows:,} rows ({loss.times:.2g} times its share)"
        for loss in warned[:5]
    )
    more = f" and {len(warned) - 5} more" if len(warned) > 5 else ""
    return [
        f"The cut is not even over {column!r}: {told}{more}. --keep-balance {column} takes the same share "
        "of each."
    ]
