"""The contrast that `saefilter features` learns from: what --toxic, --benign, --data and --decisions name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saefilter.cli import options as opt
from saefilter.cli.common import (
    asked_of,
    warn,
)
from saefilter.errors import SaefilterError
from saefilter.settings import COLUMN_SETTINGS

if TYPE_CHECKING:
    from saefilter.curate.sources import ColumnsOf, ContrastRows
    from saefilter.rows.read import Source


def given_columns(reading: opt.Given) -> ColumnsOf:
    """Which columns hold what, where that was said, in those inputs that have columns so called."""
    from saefilter.columns import Columns
    from saefilter.curate.sources import columns_held

    given = {name: reading[name] for name in COLUMN_SETTINGS if name in reading}
    asked = asked_of(given)

    def columns_of(source: Source) -> Columns | None:
        if not given:
            return None
        return columns_held(source, Columns.parse(asked.settings.of_data(source.path).columns))

    return columns_of


def contrast_of(
    toxic: list[str],
    benign: list[str],
    data: Sequence[str] = (),
    label: str | None = None,
    threshold: float | None = None,
    group: str | None = None,
    decisions: str | None = None,
    columns_of: ColumnsOf = lambda source: None,
) -> list[ContrastRows]:
    """What the options name, or what is bundled."""
    from saefilter.curate.sources import bundled, from_column, from_files
    from saefilter.rows.groups import NONE
    from saefilter.rows.inputs import open_input

    if len(toxic) != len(benign):
        raise SaefilterError(
            f"{len(toxic)} --toxic and {len(benign)} --benign inputs",
            remedy="Name one benign input for each toxic one.",
        )
    pairs = zip(toxic, benign, strict=True)
    sources = [
        from_files(open_input(one), open_input(other), group, columns_of) for one, other in pairs
    ]
    if decisions is not None:
        return [*sources, _decided(decisions, data, label, group, columns_of)]
    above = 0.5 if threshold is None else threshold
    sources += [
        from_column(open_input(name), label or "toxic", above, group, columns_of) for name in data
    ]
    if not sources and group not in (None, NONE):
        raise SaefilterError(
            f"--group {group} has no effect without data of your own: the bundled pairs have theirs",
            remedy="Leave it out.",
        )
    return sources or [bundled()]


def _decided(
    decisions: str,
    data: Sequence[str],
    label: str | None,
    group: str | None,
    columns_of: ColumnsOf,
) -> ContrastRows:
    """The rows of --data that were decided on."""
    from saefilter.artifacts.decisions import Decisions
    from saefilter.curate.sources import from_decisions
    from saefilter.rows.inputs import open_input

    opened = Decisions.open(decisions)
    if len(data) != 1:
        raise SaefilterError(
            "--decisions are on one dataset, and --data names it",
            remedy=f"Add --data {opened.input or 'DATA'}.",
        )
    if label is not None:
        raise SaefilterError(
            "--label and --decisions both say which rows are toxic", remedy="Leave one out."
        )
    return from_decisions(open_input(data[0]), opened, group, columns_of)


def matched_rows(rows: ContrastRows, *, quiet: bool) -> ContrastRows:
    from saefilter.curate.match import match

    matched, what = match(rows)
    warn(str(what), quiet=quiet)
    return matched
