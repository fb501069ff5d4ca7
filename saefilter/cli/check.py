"""`saefilter check`: the gate."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import choose_preset, one_of, progress_bar, warn
from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.gate.verdict import Outcome
    from saefilter.rows.read import Source
    from saefilter.run.chunks import ChunkScorer, ScoreSettings
    from saefilter.run.scores import Scores

FORMATS = ("text", "json", "github", "junit", "sarif", "markdown")
SUFFIXES = {
    ".txt": "text", ".json": "json", ".xml": "junit", ".sarif": "sarif", ".md": "markdown",
}  # fmt: skip
"""Of `--report`: which format a name stands for."""


@app.command(epilog="Example: saefilter check data.jsonl --max-flagged 2% --at-fpr 1%")
def check(
    inputs: Annotated[list[str], typer.Argument(help="Datasets, as `score` takes them.")],
    max_flagged: Annotated[
        str | None,
        typer.Option("--max-flagged", help="Largest share of rows beyond the harmless ones."),
    ] = None,
    at_fpr: Annotated[
        str | None,
        typer.Option("--at-fpr", help="Share of harmless rows that count as beyond [5%]."),
    ] = None,
    max_proximity: Annotated[
        float | None, typer.Option("--max-proximity", help="Largest proximity of any row.")
    ] = None,
    max_spillover: Annotated[
        float | None,
        typer.Option("--max-spillover", help="Largest predicted push on a toxic feature."),
    ] = None,
    min_scored: Annotated[
        str | None, typer.Option("--min-scored", help="Smallest share of rows that can be scored.")
    ] = None,
    max_quarantined: Annotated[
        str | None, typer.Option("--max-quarantined", help="Largest share that cannot.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Its scores file [<input>.scores.parquet here, if it fits]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Keep the scores that are made here.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            help="Also write it here: .txt, .json, .md, .xml (JUnit), .sarif; repeatable.",
        ),
    ] = None,
    preset: opt.PresetOption = None,
    model: opt.ModelOption = None,
    sae: opt.SaeOption = None,
    revision: opt.RevisionOption = None,
    toxic_set: opt.ToxicSetOption = None,
    metric: opt.MetricOption = None,
    train_on: opt.TrainOnOption = "assistant",
    max_tokens: opt.MaxTokensOption = 1024,
    device: opt.DeviceOption = "auto",
    dtype: opt.DtypeOption = "auto",
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Judge datasets by a policy: exit 0 pass, 1 the data fails, 2 no verdict could be reached.

    Limits come from these options, else from [check] in saefilter.toml or [tool.saefilter.check] in
    pyproject.toml, else a default. Scores that fit the data are reused; else the data are scored.
    """
    from saefilter.gate.policy import choose_policy
    from saefilter.run.chunks import ScoreSettings

    one_of("--format", format, FORMATS)
    for path in reports or []:
        if path.suffix not in SUFFIXES:
            raise SaefilterError(
                f"cannot tell the format from the name {path.name!r}",
                remedy=f"End it in {', '.join(SUFFIXES)}.",
            )
    if len(inputs) > 1 and (scores or output):
        raise SaefilterError("--scores and -o go with a single input")
    policy = choose_policy(
        {
            "max_flagged": max_flagged, "at_fpr": at_fpr, "max_proximity": max_proximity,
            "max_spillover": max_spillover, "min_scored": min_scored,
            "max_quarantined": max_quarantined,
        }
    )  # fmt: skip
    name, _ = choose_preset(preset, model, sae)
    settings = ScoreSettings(
        preset=name,
        model=model,
        sae=sae,
        revision=revision,
        toxic_set=toxic_set,
        metric=metric,
        train_on=one_of("--train-on", train_on, opt.TRAIN_ON),
        max_tokens=max_tokens,
        device=device,
        dtype=one_of("--dtype", dtype, opt.DTYPES),
        prepare_processes=None,
    )
    asked = bool(preset or model or sae)
    judge = _Judge(settings, asked, scores, output, overwrite, quiet)
    try:
        outcome = judge.run(inputs, policy)
    finally:
        judge.close()
    _say(outcome, format, reports or [])
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


class _Judge:
    """Finds or makes the scores of each input; the model is loaded once, when first needed."""

    def __init__(
        self,
        settings: ScoreSettings,
        asked: bool,
        scores: Path | None,
        output: Path | None,
        overwrite: bool,
        quiet: bool,
    ):
        self.settings = settings
        self.asked = asked  # for a preset or model, by an option
        self.scores = scores
        self.output = output
        self.overwrite = overwrite
        self.quiet = quiet
        self.scorer: ChunkScorer | None = None

    def run(self, inputs: list[str], policy: object) -> Outcome:
        """The outcome for all inputs: one that cannot be judged does not keep the others from it."""
        from saefilter.gate.evaluate import evaluate
        from saefilter.gate.policy import Policy
        from saefilter.gate.verdict import Outcome, Unjudged
        from saefilter.rows.inputs import open_input

        assert isinstance(policy, Policy)
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
        from saefilter.run.scores import SUFFIX, Scores

        if self.scores is not None:
            return Scores.open(self.scores)
        usual = Path(f"{source.stem}{SUFFIX}")
        if self.output is None and usual.exists():
            if (why := self._why_not(usual, source)) is None:
                warn(f"Using the scores {usual}", quiet=self.quiet)
                return Scores.open(usual)
            warn(f"Not using {usual}: {why}; scoring {source.path}", quiet=self.quiet)
        return self._score(source, self.output or folder / "check.scores.parquet")

    def _why_not(self, path: Path, source: Source) -> str | None:
        """Why existing scores cannot serve; None when they can."""
        from saefilter.run.scores import Scores
        from saefilter.toxic.load import load_toxic_set

        try:
            found = Scores.open(path)
            found.check_belongs(source)
        except SaefilterError as error:
            return error.problem
        made, want = found.provenance, self.settings
        if want.toxic_set and load_toxic_set(want.toxic_set).sha256() != made.toxic_set_sha256:
            return "they were made with another toxic set"
        if self.asked and want.preset and want.preset != made.preset:
            return f"they were made with preset {made.preset}"
        if want.model and (want.model, want.sae) != (made.model, made.sae):
            return f"they were made with {made.model} and {made.sae}"
        if want.metric and want.metric != made.metric:
            return f"they were made with metric {made.metric}"
        if (want.train_on, want.max_tokens) != (made.train_on, made.max_tokens):
            return f"they were made with --train-on {made.train_on} --max-tokens {made.max_tokens}"
        return None

    def _score(self, source: Source, target: Path) -> Scores:
        from saefilter.run.chunks import ChunkScorer
        from saefilter.run.score import score_file
        from saefilter.run.scores import Scores
        from saefilter.watch import Watch

        with progress_bar("Scoring", None, quiet=self.quiet) as bar:
            if self.scorer is None:
                self.scorer = ChunkScorer.load(
                    self.settings, lambda text: warn(text, quiet=self.quiet)
                )
            score_file(
                source, target, self.settings, overwrite=self.overwrite, chunk_scorer=self.scorer,
                watch=Watch(plan=bar.plan, advance=bar),
            )  # fmt: skip
        return Scores.open(target)


def _say(outcome: Outcome, format: str, reports: list[Path]) -> None:
    from saefilter.gate import ci, words
    from saefilter.run.publish import publishing, refuse_existing

    faces = {
        "text": words.to_text,
        "json": words.to_json,
        "markdown": words.to_markdown,
        "github": ci.to_github,
        "junit": ci.to_junit,
        "sarif": ci.to_sarif,
    }
    typer.echo(faces[format](outcome), nl=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if format == "github" and summary:
        with open(summary, "a", encoding="utf-8") as file:
            file.write(words.to_markdown(outcome))
    refuse_existing(reports, overwrite=True)
    with publishing(reports) as temporary:
        for path, target in zip(temporary, reports, strict=True):
            path.write_text(faces[SUFFIXES[target.suffix]](outcome), encoding="utf-8")
