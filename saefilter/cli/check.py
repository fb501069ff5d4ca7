"""`saefilter check`: the gate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, completion, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    asked_of,
    one_of,
    output_console,
    refuse_overwrite_alone,
    warn,
)
from saefilter.cli.progress import scoring_bar
from saefilter.cli.root import verdict
from saefilter.errors import SaefilterError
from saefilter.gate.policy import Policy
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.asked import Asked
    from saefilter.gate.verdict import Outcome
    from saefilter.rows.read import Source
    from saefilter.scoring.scorer import RowScorer
    from saefilter.storage import Location

FORMATS = ("text", "json", "github", "junit", "sarif", "markdown")
SUFFIXES = {
    ".txt": "text", ".json": "json", ".xml": "junit", ".sarif": "sarif", ".md": "markdown",
}  # fmt: skip
"""Of `--report`: which format a name stands for."""


@app.command(epilog="Example: saefilter check data.jsonl --max-flagged 2% --at-fpr 1%")
@opt.with_options(Policy, "limits", panel=panels.LIMITS)
@opt.with_options(ScoreSettings, "scoring", defaults={**ON_COMMAND_LINE, "workers": 1})
def check(
    *,
    inputs: Annotated[list[str], typer.Argument(help="Datasets, as `score` takes them.")],
    limits: opt.Given,
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores",
            help="Its scores file [<input>.scores.parquet here, if it fits].",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Keep the scores that are made here."),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help=f"One of {', '.join(FORMATS)} [text].",
            show_default=False,
            autocompletion=completion.completing("format", FORMATS),
        ),
    ] = "text",
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            help="Also write it here: .txt, .json, .md, .xml (JUnit), .sarif; repeatable.",
        ),
    ] = None,
    scoring: opt.Given,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Judge datasets by a policy: exit 0 pass, 1 the data fails, 2 no verdict could be reached.

    Limits come from these options, else from [check] in saefilter.toml or [tool.saefilter.check] in
    pyproject.toml, else a default. Scores that fit the data are reused; else the data are scored.
    """
    from saefilter.gate.policy import choose_policy
    from saefilter.storage import located_if

    if as_json and format not in ("text", "json"):
        raise SaefilterError("--json and --format exclude each other", remedy="Use one of them.")
    format = "json" if as_json else format
    one_of("--format", format, FORMATS)
    for path in reports or []:
        if path.suffix not in SUFFIXES:
            raise SaefilterError(
                f"cannot tell the format from the name {path.name!r}",
                remedy=f"End it in {', '.join(SUFFIXES)}.",
            )
    if len(inputs) > 1 and (scores or output):
        raise SaefilterError("--scores and -o go with a single input")
    for path in reports or []:
        if path.exists() and any(Path(name).exists() and path.samefile(name) for name in inputs):
            raise SaefilterError(
                f"{path} is read by this command and would be overwritten",
                remedy="Choose another name for --report.",
            )
    if scores and output:
        raise SaefilterError(
            "-o has no effect with --scores: nothing is scored", remedy="Leave one of them out."
        )
    refuse_overwrite_alone(output, overwrite=overwrite)
    policy, asked = choose_policy(limits), asked_of(scoring)
    judge = _Judge(asked, located_if(scores), located_if(output), overwrite, quiet)
    try:
        outcome = judge.run(inputs, policy)
    finally:
        judge.close()
    _say(outcome, format, reports or [], judge.reused)
    verdict(outcome.exit_code)


class _Judge:
    """Finds or makes the scores of each input; the model is loaded once, when first needed."""

    def __init__(
        self,
        asked: Asked,
        scores: Location | None,
        output: Location | None,
        overwrite: bool,
        quiet: bool,
    ):
        self.asked = asked
        self.scores = scores
        self.output = output
        self.overwrite = overwrite
        self.quiet = quiet
        self.reused: set[str] = set()
        """Inputs whose scores were there."""
        self.scorer: RowScorer | None = None

    def run(self, inputs: list[str], policy: Policy) -> Outcome:
        """The outcome for all inputs: one that cannot be judged does not keep the others from it."""
        from saefilter.gate.evaluate import evaluate
        from saefilter.gate.verdict import Outcome, Unjudged
        from saefilter.rows.inputs import open_input

        outcome = Outcome()
        for name in inputs:
            with tempfile.TemporaryDirectory(prefix="saefilter-") as folder:
                try:
                    source = open_input(name)
                    opened = self._scores_of(source, Path(folder))
                    outcome.verdicts.append(evaluate(source, opened, policy))
                except SaefilterError as error:
                    outcome.unjudged.append(Unjudged(name, str(error)))
        return outcome

    def close(self) -> None:
        """End what the model's scorer started."""
        if self.scorer is not None:
            self.scorer.close()

    def _scores_of(self, source: Source, folder: Path) -> Scores:
        from saefilter.scoring.scores_for import scores_for, usual_scores

        self.reused.add(str(source.path))

        def make(why: str | None) -> Scores:
            self.reused.discard(str(source.path))
            if why is not None:
                self._say(f"Not using {usual_scores(source)}: {why}; scoring {source.path}")
            return self._score(source, self.output or folder / "check.scores.parquet")

        return scores_for(
            source, self.asked, named=self.scores, make=make, strict=True,
            look=self.output is None, say=self._say,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        warn(text, quiet=self.quiet)

    def _score(self, source: Source, target: Location) -> Scores:
        from saefilter.artifacts.scores import Scores

        with scoring_bar(quiet=self.quiet) as watch:
            from saefilter.scoring.score import score_file
            from saefilter.scoring.scorer import RowScorer

            alone = (self.asked.settings.workers or 1) == 1
            if alone and self.scorer is None:
                self.scorer = RowScorer.load(self.asked.settings, self._say)
            score_file(
                source, target, self.asked.settings, overwrite=self.overwrite,
                scorer=self.scorer, watch=replace(watch, say=lambda text: None),
                again=None if self.output is None else "`saefilter score --resume` scores the rest",
            )  # fmt: skip
        return Scores.open(target)


def _say(outcome: Outcome, format: str, reports: list[Path], reused: Collection[str]) -> None:
    from saefilter.artifacts.publish import publishing, refuse_existing
    from saefilter.gate import ci, words

    faces = {
        "text": words.to_text,
        "json": words.to_json,
        "markdown": words.to_markdown,
        "github": ci.to_github,
        "junit": ci.to_junit,
        "sarif": ci.to_sarif,
    }
    console = output_console()
    shown = words.said_once(outcome, reused) if format in ("text", "github") else outcome
    if format == "text" and console.is_terminal:
        words.print_text(console, faces[format](shown))
    else:
        typer.echo(faces[format](shown), nl=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if format == "github" and summary:
        with open(summary, "a", encoding="utf-8") as file:
            file.write(words.to_markdown(outcome))
    refuse_existing(reports, overwrite=True)
    with publishing(reports) as temporary:
        for path, target in zip(temporary, reports, strict=True):
            path.write_text(faces[SUFFIXES[target.suffix]](outcome), encoding="utf-8")
