"""Which rows are bad, where the user knows: a column of the data, or a file of row ids and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.decisions import Decisions
from saefilter.curate.sources import label_value
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.select.ranking import Candidates
from saefilter.select.registry import StrategyOptions

BAD_ABOVE = 0.5
"""Labels above it are bad: 1 of 0 and 1, and the upper half of a graded label."""
REVIEW = "review"
"""What labels of a decisions file are by."""
ROW_ID, LINE, FILE = "row_id", "line", "file"


@dataclass(frozen=True)
class RowLabels:
    """What is known of the scored rows."""

    value: NDArray[np.float64]
    """How bad each is, NaN where it is not known, `[n_rows]`."""
    about: dict[str, Any]
    """Where it is from, for artifacts."""

    @property
    def bad(self) -> NDArray[np.bool_]:
        """`[n_rows]`"""
        return self.value > BAD_ABOVE

    @property
    def known(self) -> NDArray[np.bool_]:
        """`[n_rows]`"""
        return ~np.isnan(self.value)

    def words(self) -> list[str]:
        """What each row's label says."""
        return [
            "labelled bad" if bad else "labelled good" if known else "without a label"
            for bad, known in zip(self.bad.tolist(), self.known.tolist(), strict=True)
        ]


def read_labels(candidates: Candidates, options: StrategyOptions) -> RowLabels:
    """The labels that the options name. Rows may lack one.

    Raises SaefilterError when there are none, or they cannot be brought together with the rows.
    """
    if options.labels is not None:
        source = open_input(options.labels)
        value, column = _from_file(candidates, source, options.label)
        about = {"file": source.path.name, "sha256": source.sha256(), "column": column}
    elif options.decisions is not None:
        value, about = _from_decisions(candidates, Decisions.open(options.decisions))
    elif options.label is not None:
        value, about = _from_column(candidates, options.label), {"column": options.label}
    else:
        raise SaefilterError(
            "nothing says which rows are bad",
            remedy="Use --label COLUMN, --labels FILE or --decisions FILE.",
        )
    labels = RowLabels(value, about)
    if not labels.known.any():
        raise SaefilterError(
            "none of the scored rows has a label", remedy="Check --label, --labels and --decisions."
        )
    counts = {"bad": int(labels.bad.sum()), "labelled": int(labels.known.sum())}
    return RowLabels(value, {**about, **counts})


def _from_decisions(
    candidates: Candidates, decisions: Decisions
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """1 for the rows that a review dropped, 0 for those that it kept, and where that is from."""
    if candidates.scores is None:
        raise SaefilterError("decisions need the scores file, which has the rows' hashes")
    made = candidates.scores.provenance
    decisions.check_belongs(made.input_sha256, made.input_path)
    number = decisions.on(candidates.scores.row_hashes()[candidates.row_ids])
    bad = np.array([float(one.drops) for one in decisions.decisions])
    value = np.full(len(candidates), np.nan)
    value[number >= 0] = bad[number[number >= 0]]
    name = decisions.path.name if decisions.path is not None else ""
    return value, {"file": name, "sha256": decisions.sha256, "column": "decision", "by": REVIEW}


def _from_column(candidates: Candidates, column: str) -> NDArray[np.float64]:
    value = np.full(len(candidates), np.nan)
    seen: set[str] = set()
    for position, row in enumerate(candidates.rows()):
        data = row.data or {}
        seen.update(data)
        if data.get(column) not in (None, ""):
            assert candidates.source is not None  # rows() read it
            value[position] = label_value(data[column], column, row, candidates.source)
    if column not in seen:
        raise _no_column(column, seen, candidates.source)
    return value


def _from_file(
    candidates: Candidates, source: Source, column: str | None
) -> tuple[NDArray[np.float64], str]:
    """The labels of a file, and the column that they were in."""
    value = np.full(len(candidates), np.nan)
    place: dict[tuple[Any, ...], int] | None = None
    for row in _readable(source):
        data = row.data or {}
        keys = [name for name in (ROW_ID, LINE) if name in data]
        if not keys:
            raise SaefilterError(
                f"the labels say of no row which one is meant (the columns are {', '.join(data)})",
                where=f"{source.path}:{row.line}",
                remedy="Give them a column row_id, from 0, or line, from 1.",
            )
        if column is None:
            column = _label_column(data, source)
        if place is None:
            place = _places(candidates, keys[0], FILE in data)
        if column not in data:
            raise _no_column(column, data, source)
        if data[column] in (None, ""):
            continue
        key = (_whole(data[keys[0]], keys[0], row, source), *([data[FILE]] if FILE in data else []))
        if key not in place:
            raise SaefilterError(
                f"{keys[0]} {' of '.join(map(str, key))} is no row of the data",
                where=f"{source.path}:{row.line}",
                remedy="row_id counts from 0, line from 1.",
            )
        position = place[key]
        if position < 0:
            continue  # it could not be scored, so nothing can be done to it
        label = label_value(data[column], column, row, source)
        if not np.isnan(value[position]) and value[position] != label:
            raise SaefilterError(
                f"{keys[0]} {key[0]} has two labels", where=f"{source.path}:{row.line}"
            )
        value[position] = label
    if column is None:
        raise SaefilterError("there are no labels in it", where=str(source.path))
    return value, column


def _places(candidates: Candidates, key: str, by_file: bool) -> dict[tuple[Any, ...], int]:
    """Where each row of the data is among the candidates, by its id or line; -1: it was not scored."""
    if candidates.scores is None:
        raise SaefilterError("labels of a file need the scores file")
    table = candidates.scores.read([ROW_ID, LINE, FILE])
    several = table[FILE].null_count < len(table)
    if key == LINE and several and not by_file:
        raise SaefilterError(
            "the data are several files, and a line alone is in each of them",
            remedy="Give the labels a column row_id, or file beside line.",
        )
    ids = table[key].to_pylist()
    names = table[FILE].to_pylist() if by_file else None
    position = np.full(len(table), -1, dtype=np.int64)
    position[candidates.row_ids] = np.arange(len(candidates))
    keys = zip(ids, names, strict=True) if names is not None else ((row,) for row in ids)
    return dict(zip(keys, position.tolist(), strict=True))


def _label_column(data: dict[str, Any], source: Source) -> str:
    """The only column that can hold the label. Raises SaefilterError when several can."""
    others = [name for name in data if name not in (ROW_ID, LINE, FILE)]
    if len(others) != 1:
        raise SaefilterError(
            f"which column holds the label? There are {', '.join(others) or 'none'}",
            where=str(source.path),
            remedy="Name it: --label COLUMN",
        )
    return others[0]


def _readable(source: Source) -> Iterator[Row]:
    for row in source.rows():
        if row.data is None:
            raise SaefilterError(
                f"a label cannot be read ({row.error})", where=f"{source.path}:{row.line}"
            )
        yield row


def _whole(value: Any, name: str, row: Row, source: Source) -> int:
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise SaefilterError(
        f"{name} {str(value)[:40]!r} is no row's number", where=f"{source.path}:{row.line}"
    )


def _no_column(column: str, columns: Any, source: Source | None) -> SaefilterError:
    return SaefilterError(
        f"there is no column {column!r}",
        where=str(source.path) if source else "",
        remedy=f"{did_you_mean(column, sorted(columns), 'There are')} Name the column of the label with "
        "--label.",
    )
