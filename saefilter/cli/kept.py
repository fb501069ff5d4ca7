"""Where `saefilter filter` puts the rows that it keeps: a file, a folder, the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from saefilter.cli.common import warn
from saefilter.errors import SaefilterError
from saefilter.filtering.soft import SoftOptions

if TYPE_CHECKING:
    from saefilter.filtering.job import FilterResult
    from saefilter.hub import HubRepo, Pushed
    from saefilter.rows.read import Source
    from saefilter.settings import ScoreSettings
    from saefilter.storage import Location


def writer_of(
    output: Location | None,
    source: Source,
    written: SoftOptions,
    kind: str | None,
    *,
    single: bool,
    quiet: bool,
    card: bool,
    report_rows: int,
    overwrite: bool,
    settings: ScoreSettings,
) -> Callable[..., FilterResult]:
    """What writes the rows of scores by a selection: to a folder or to one file, neither of which is in the
    way. Raises SaefilterError where it is, before anything is scored."""
    from saefilter.filtering.folder import writer_to
    from saefilter.filtering.layout import goes_to_folder

    single = single or (output is None and (written.is_soft or written.swaps))
    folder = not single and goes_to_folder(source, output)
    if not folder:
        place = _kept_at(output, source, written, kind, quiet=quiet)
    elif kind is not None:
        raise SaefilterError(
            "--format is of one file: in a folder each keeps its own format",
            remedy="Leave it out, or write one file: --single.",
        )
    else:
        place = output or Path(f"{source.stem}.filtered")
    return writer_to(
        place, source, written,
        folder=folder, card=card, overwrite=overwrite, report_rows=report_rows, settings=settings,
    )  # fmt: skip


def _kept_at(
    asked: Location | None, source: Source, written: SoftOptions, kind: str | None, *, quiet: bool
) -> Location:
    """Where kept rows go: unless asked otherwise to a file of the input's format here."""
    from saefilter.rows.tables import why_no_table
    from saefilter.rows.written import CSV, JSONL, PARQUET, format_of, usual_ending

    if asked is None:
        ending = f".{kind}" if kind else usual_ending(source)
        if not kind and format_of(f"rows{ending}") == CSV and not written.fits_csv:
            ending = f".{JSONL}"
        asked = Path(f"{source.stem}.filtered{ending}")
    is_kind = format_of(asked.name)
    if kind not in (None, is_kind):
        raise SaefilterError(
            f"--format {kind} and -o {asked} disagree",
            remedy=f"Leave --format out, or end the name in .{kind}.",
        )
    if is_kind == PARQUET and (why := why_no_table(source)) is not None:
        warn(
            f"A table does not hold these rows as they are: {why}; missing fields become nulls, and rows of "
            "another type are set aside. JSON lines (-o NAME.jsonl) keep all",
            quiet=quiet,
        )
    return asked


def hub_repo(name: str | None, output: Location | None, *, public: bool) -> HubRepo | None:
    """Where kept rows are pushed. Raises SaefilterError where they could not be, before anything is scored."""
    if name is None:
        if public:
            raise SaefilterError("--public has no effect without --push-to-hub")
        return None
    from saefilter.filtering.push import check_pushable
    from saefilter.hub import HubRepo

    repo = HubRepo(name, "dataset", public)
    check_pushable(output, repo)
    return repo


def push(result: FilterResult, repo: HubRepo | None) -> Pushed | None:
    """What was filtered, handed over where that is asked for."""
    if repo is None:
        return None
    from saefilter.filtering.push import push_filtered

    try:
        return push_filtered(result, repo)
    except SaefilterError as error:
        raise SaefilterError(
            f"filtered into {result.paths.kept}, and not pushed: {error.problem}",
            where=error.where, remedy=f"{error.remedy or ''} The same command with --overwrite tries again.",
        ) from error  # fmt: skip
