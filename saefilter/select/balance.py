"""What a cut does to the values of a column, so that no topic, language or length goes silently: how many
rows each value loses, and a choice that takes the same share of each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError, did_you_mean

if TYPE_CHECKING:
    from saefilter.select.ranking import Candidates

LENGTH = "length"
"""Tokens that are scored, in four parts of as many rows; a column of the data that is called so wins."""
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


@dataclass(frozen=True)
class Loss:
    """What one value loses. Its name is untrusted."""

    value: str
    rows: int
    dropped: int
    times: float
    """The share of its rows that goes, over that of all rows."""
    warned: bool


def read_values(candidates: Candidates, column: str) -> Values:
    """The values of a column of the data, or of `length`. Raises SaefilterError where there is none."""
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
        raise SaefilterError(
            f"the data have no column {column!r}",
            remedy=did_you_mean(column, [*names, LENGTH]),
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
    return Values(column, names, label)


def losses(values: Values, dropped: NDArray[np.bool_]) -> list[Loss]:
    """What each value loses, `dropped` `[n_rows]`; values without rows are left out.

    One is warned of that loses more than TIMES its share, or all its rows; of single rows none is.
    """
    share = float(dropped.mean()) if len(dropped) else 0.0
    found_losses = []
    for number, name in enumerate(values.names):
        own = dropped[values.label == number]
        if not len(own):
            continue
        count = int(own.sum())
        times = float(own.mean()) / share if share else 0.0
        all_gone = count == len(own) and share < 1
        found_losses.append(
            Loss(name, len(own), count, times, count > 1 and (times > TIMES or all_gone))
        )
    return found_losses


def balanced(order: NDArray[np.int64], count: int, values: Values) -> NDArray[np.bool_]:
    """The first `count` rows of the `order` with the same share of every value, `[n_rows]`.

    What does not come out even goes to the values with the largest remainder.
    """
    sizes = np.bincount(values.label, minlength=len(values.names))
    exact = count * sizes / max(1, len(order))
    quota = np.floor(exact + 1e-9).astype(np.int64)
    rest = count - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:rest]] += 1
    dropped = np.zeros(len(order), dtype=np.bool_)
    for number in range(len(values.names)):
        own = order[values.label[order] == number]
        dropped[own[: quota[number]]] = True
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
