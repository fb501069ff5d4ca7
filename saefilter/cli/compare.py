"""`saefilter compare`: strategies side by side on one scored dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, completion, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    STRATEGY_NAMES,
    asked_of,
    data_of,
    judge_settings,
    output_console,
    print_json,
    strategy_options,
    warn,
)
from saefilter.cli.progress import progress_bar
from saefilter.described import as_fraction
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.select.judge.settings import JudgeSettings
from saefilter.select.registry import StrategyOptions

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.read import Source

ENDINGS = (".html", ".md", ".json")


@app.command(
    epilog="Example: saefilter compare data.scores.parquet --label is_bad --drop-frac 5% 10% 25%"
)
@opt.with_options(StrategyOptions, "telling", panel=panels.STRATEGIES)
@opt.with_options(JudgeSettings, "judging", panel=panels.JUDGE)
def compare(
    *,
    scores: Annotated[
        list[str] | None,
        typer.Argument(help="Scores files of the same data [the last in this folder]."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="The dataset [what the scores were made from].",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            help=f"Which to compare, several: {STRATEGY_NAMES} [closest, random, and what the other "
            "options allow for].",
            autocompletion=completion.strategies,
        ),
    ] = None,
    drop_frac: Annotated[
        list[str] | None,
        typer.Option(
            "--drop-frac", help="Shares of the rows to drop, 5% or 0.05 [5% 10% 25% 50%]."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Name of the .html, .md and .json.")
    ] = Path("compare"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of strategies that draw, and of intervals.")
    ] = 0,
    telling: opt.Given,
    judging: opt.Given,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Compare strategies at equal removal: what each finds, and where they differ.

    With labels: precision, recall and AUROC on the bad rows. Without: overlap and differences. Several
    scores files of one dataset (by different metrics, say) are compared with one another.
    """
    from saefilter.artifacts.publish import publishing, refuse_existing
    from saefilter.compare.compare import FRACTIONS, check_request, default_strategies
    from saefilter.compare.compare import compare as compare_strategies
    from saefilter.watch import Watch

    files, more_names, more_shares = _sorted(scores or [])
    names = [*(strategy or []), *more_names]
    options = strategy_options(telling, judge_settings(judging))
    unsaid, names = not names, names or default_strategies(options)
    shares = [
        as_fraction(text, "--drop-frac") for text in [*(drop_frac or []), *more_shares]
    ] or list(FRACTIONS)
    check_request(names, options, shares)
    stem = output.with_suffix("") if output.suffix in ENDINGS else output
    paths = [stem.with_name(stem.name + ending) for ending in ENDINGS]
    refuse_existing(paths, overwrite=overwrite)
    opened, source = _open(files, data)
    if unsaid and all(one.of_preferences for one in opened):
        names.insert(1, "chosen-side")
    silent = quiet or as_json
    with progress_bar("Rows", None, quiet=silent) as bar:
        watch = Watch(lambda text: warn(text, quiet=silent), bar.plan, bar)
        comparison = compare_strategies(
            source, opened, names, options, fractions=shares, seed=seed, watch=watch
        )
    from saefilter.report.compare import compare_html
    from saefilter.report.compare_text import compare_markdown, print_comparison

    with publishing(paths) as temporary:
        texts = (compare_html(comparison), compare_markdown(comparison), comparison.to_json())
        for path, text in zip(temporary, texts, strict=True):
            path.write_text(text, encoding="utf-8")
    if as_json:
        print_json(comparison.to_json())
    elif not quiet:
        console = output_console()
        said = [one.provenance.note or "" for one in opened]  # by who made the scores
        print_comparison(console, comparison, said)
        console.print(f"\nWritten to {paths[0]} (.md, .json)")


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Files, strategies and shares among the words that stand alone: `--drop-frac 5% 10%` leaves
    its second number there, and `--strategy closest random` its second name."""
    from saefilter.select.registry import strategy_names

    files, names, shares = [], [], []
    known = strategy_names()
    for word in words:
        if word in known:
            names.append(word)
        elif Path(word).exists():
            files.append(word)
        elif word.removesuffix("%").replace(".", "", 1).isdigit():
            shares.append(word)
        elif re.fullmatch("[a-z-]+", word):
            raise SaefilterError(
                f"{word!r} is no scores file and no strategy",
                remedy=did_you_mean(word, known, "Strategies"),
            )
        else:
            files.append(word)
    return files, names, shares


def _open(files: Sequence[str], data: str | None) -> tuple[list[Scores], Source]:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.scores_for import latest_scores_for

    opened = [Scores.open(name) for name in files] or [latest_scores_for(asked_of({}))]
    if len({one.file.resolve() for one in opened}) < len(opened):
        raise SaefilterError("a scores file is named twice")
    if data is not None:
        return opened, open_input(data)
    return opened, data_of(opened[0], "Name the data with --data.")
