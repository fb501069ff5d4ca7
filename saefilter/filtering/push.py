"""Filtered rows on the Hugging Face hub: the kept ones and their card, never what was dropped."""

from __future__ import annotations

from pathlib import Path

from saefilter.errors import SaefilterError
from saefilter.filtering.job import FilterResult
from saefilter.hub import README, HubRepo, Pushed
from saefilter.report.card import to_card
from saefilter.storage import Location, RemotePath


def check_pushable(output: Location | None, repo: HubRepo) -> None:
    """Raises SaefilterError when what is filtered could not be pushed, before anything is scored."""
    if isinstance(output, RemotePath):
        raise SaefilterError(
            f"--push-to-hub pushes files of this machine, and -o {output} is none",
            remedy="Name a file here.",
        )
    repo.check()


def push_filtered(result: FilterResult, repo: HubRepo) -> Pushed:
    """Hand over the kept rows of a run, and its card. The report stays here: it quotes dropped rows.

    Raises SaefilterError; what was written on this machine stays.
    """
    kept = result.paths.kept
    assert isinstance(kept, Path)
    layout = result.report.layout
    names = [one["kept"]["name"] for one in layout if one.get("kept", {}).get("rows")]
    files: dict[str, Path | bytes] = (
        {name: kept / name for name in names} if layout else {kept.name: kept}
    )
    if README in files:
        raise SaefilterError(f"rows cannot be called {README}, which is the card")
    files[README] = to_card(result.report).encode()
    return repo.push(files, f"Rows kept by saefilter {result.report.version}")
