"""`saefilter doctor`: will it work, and what will it take, here or on other machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import asked_of, preset_of, print_json
from saefilter.cli.root import verdict
from saefilter.errors import SaefilterError
from saefilter.settings import COLUMN_SETTINGS, ScoreSettings
from saefilter.text import clean

if TYPE_CHECKING:
    from saefilter.encode.cards import Cards
    from saefilter.encode.plan import Figure, Pace, Rows
    from saefilter.encode.preflight import Preflight
    from saefilter.scoring.trial import Sample, Trial

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True)
class Wanted:
    """What a plan is asked for."""

    rows: int | None
    """None for those of the data."""
    tokens_per_row: int | None
    cards: Cards | None
    """None for this machine."""
    trial: bool


@app.command(
    epilog="Example: saefilter doctor --preset gemma-2-2b data.jsonl --rows 10M --gpus 8xH100"
)
@opt.with_options(
    ScoreSettings, "reading", only=(*opt.READING, *COLUMN_SETTINGS, "max_tokens", "device", "dtype")
)
def doctor(
    *,
    input: Annotated[
        str | None, typer.Argument(help="Dataset to plan for; some of its rows are scored.")
    ] = None,
    reading: opt.Given,
    rows: Annotated[
        str | None, typer.Option("--rows", help="Plan for so many rows: 10M, 250k [the data's].")
    ] = None,
    tokens_per_row: Annotated[
        int | None,
        typer.Option("--tokens-per-row", min=1, help="Without data to count them in [300]."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", help="Plan for such GPUs: 8xH100, L4, ... [this machine]."),
    ] = None,
    no_trial: Annotated[
        bool, typer.Option("--no-trial", help="Load no weights: estimate the time by arithmetic.")
    ] = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Say whether a preset will work, and what so many rows will take.

    In seconds and before any weights load; with data on this machine, some rows are then scored.
    """
    from saefilter.encode.cards import read_cards
    from saefilter.encode.plan import read_count

    wanted = Wanted(
        read_count(rows) if rows else None,
        tokens_per_row,
        read_cards(gpus) if gpus else None,
        not no_trial,
    )
    if input is None and wanted.rows is None and (gpus or tokens_per_row):
        raise SaefilterError("of how many rows is not said", remedy="Add --rows 10M, or the data.")
    if input is not None and tokens_per_row is not None:
        raise SaefilterError("--tokens-per-row has no effect with data", remedy="Leave it out.")
    from saefilter.encode.preflight import preflight
    from saefilter.rows.rendered import RenderOptions

    asked = asked_of(reading)
    settings = asked.settings if input is None else asked.settings.of_data(Path(input))
    checked = preflight(
        preset_of(asked), device=settings.device, dtype=settings.dtype,
        options=RenderOptions.of(settings), elsewhere=wanted.cards is not None,
    )  # fmt: skip
    plan: list[Figure] = []
    if (input is not None or wanted.rows is not None) and not checked.failed:
        plan = _plan(checked, settings, input, wanted)
    fits = all(figure.values.get("fits", True) for figure in plan)
    if as_json:
        summary = {
            "preset": checked.preset.name,
            "checks": [asdict(check) for check in checked.checks],
            "plan": [figure.fields() for figure in plan],
        }
        print_json(json.dumps(summary, indent=2))
    else:
        _print(checked, asked.why(), plan, where=f"on {wanted.cards or 'this machine'}")
        typer.echo("Ready." if fits and not checked.failed else "It will not work as it is.")
    verdict(2 if checked.failed or not fits else 0)


def _plan(
    checked: Preflight, settings: ScoreSettings, input: str | None, wanted: Wanted
) -> list[Figure]:
    from saefilter.encode.plan import ASSUMED_TOKENS, Rows, figures_of, memory_of, pace_of_cards
    from saefilter.encode.preflight import reader_of
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.trial import SCORED_PER_READ, count_tokens, sample_of

    reader = reader_of(checked)
    sample = None
    if input is None:
        assert wanted.rows is not None
        tokens = wanted.tokens_per_row or ASSUMED_TOKENS
        rests_on = f"{tokens} tokens a row, {'as given' if wanted.tokens_per_row else 'assumed'}"
        if tokens > settings.max_tokens:
            tokens = settings.max_tokens
            rests_on += f", cut at --max-tokens {tokens}"
        rows = Rows(wanted.rows, tokens, tokens * SCORED_PER_READ, rests_on)
    else:
        sample = sample_of(open_input(input), settings.columns)
        rows = count_tokens(sample, checked.renderer, wanted.rows or sample.total)
    makes_set = settings.toxic_set is None and checked.preset.toxic_set is None
    if wanted.cards is None:
        pace, trial = _pace_here(checked, settings, sample if wanted.trial else None, rows)
        figures = figures_of(rows, pace, trial.scores_bytes if trial else None, makes_set)
        return figures if trial is None else [*figures, _memory_here(trial)]
    memory, per_model = memory_of(reader, wanted.cards)
    if not per_model:
        return [memory]
    pace = pace_of_cards(reader, rows, wanted.cards, per_model)
    return [*figures_of(rows, pace, None, makes_set), memory]


def _pace_here(
    checked: Preflight, settings: ScoreSettings, sample: Sample | None, rows: Rows
) -> tuple[Pace, Trial | None]:
    """By a trial where there are data, weights and time for one; else by arithmetic."""
    from saefilter.encode.plan import Pace
    from saefilter.encode.preflight import OK, pace_by_arithmetic, reader_of
    from saefilter.scoring.trial import is_worth_trying, try_rows

    guess = pace_by_arithmetic(checked, reader_of(checked), rows)
    here = checked.sae is not None and checked.sae.local
    here = here and all(one.status == OK for one in checked.checks if one.name == "weights")
    if sample is None:
        return guess, None
    if not here or not is_worth_trying(guess.row):
        why = "a few rows take too long to try" if here else "not all of it is on this machine yet"
        return replace(guess, rests_on=f"{guess.rests_on}; no row was scored: {why}"), None
    trial = try_rows(settings, sample, guess.row)
    rests_on = f"measured: {trial.rows:,} of its rows, scored on this machine's {trial.device}"
    if trial.shared_cores:
        rests_on += ", of which other processes had much"
    pace = Pace(
        trial.start, trial.row, guess.workers, guess.gpus, rests_on, trial.processor,
        trial.shared_cores,
    )  # fmt: skip
    return pace, trial


def _memory_here(trial: Trial) -> Figure:
    from saefilter.encode.plan import Figure, size

    of = "the card" if trial.device.startswith("cuda") else "the process"
    values = {"gb": round(trial.peak_bytes / 1e9, 2)}
    return Figure("memory", f"{size(trial.peak_bytes)} of {of}", "measured in the trial", values)


def _print(checked: Preflight, title: str, plan: list[Figure], where: str) -> None:
    typer.echo(title)
    for check in checked.checks:
        typer.echo(clean(f"  {MARKS[check.status]}  {check.name:10} {check.says}"))
        if check.remedy and check.status != "ok":
            typer.echo(clean(f"        {'':10} {check.remedy}"))
    if checked.placement is not None:
        for reason in checked.placement.reasons:
            typer.echo(f"        {reason}")
    if plan:
        typer.echo(f"Plan {where}:")
    for figure in plan:
        typer.echo(clean(f"  {figure.name:9} {figure.says}"))
        typer.echo(clean(f"  {'':9} ({figure.rests_on})"))
