"""The Python API: what the commands do, for datasets in memory or anywhere the commands read from.

import saefilter

scores = saefilter.score(dataset)
result = saefilter.filter(dataset, scores, drop_frac=0.1)
trainer = SFTTrainer(train_dataset=result.kept, ...)
"""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.scores import Scores as ScoresFile
from saefilter.asked import Asked, ask, ask_with
from saefilter.errors import SaefilterError
from saefilter.results import Filtered, Scores, said_of, taken_apart
from saefilter.rows.held import Data, Held, hold, scratch
from saefilter.scoring.scores_for import refuse_others
from saefilter.select.decided import choose_decided
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Choice, Selection, choose
from saefilter.settings import ScoreSettings
from saefilter.storage import located
from saefilter.watch import Watch, in_notebook, progress_watch

if TYPE_CHECKING:
    from saefilter.gate.verdict import Verdict
    from saefilter.scoring.scorer import RowScorer

PathLike = str | os.PathLike[str]


@contextmanager
def _watching(
    description: str, progress: bool | None, say: Callable[[str], None] = lambda text: None
) -> Iterator[Watch]:
    """A bar where one is asked for, or nothing was said and this is a notebook; else only what is to say."""
    if progress or (progress is None and in_notebook()):
        with progress_watch(description, say) as watch:
            yield watch
    else:
        yield Watch(say)


def score(
    data: Data,
    *,
    preset: str | None = None,
    toxic_set: PathLike | None = None,
    metric: str | None = None,
    settings: ScoreSettings | None = None,
    output: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = 1,
    scorer: RowScorer | None = None,
    progress: bool | None = None,
) -> Scores:
    """Score every row by its distance to toxic features.

    data: a file name, URL or hub dataset as the command line takes it, a `datasets.Dataset`, a data frame
        of pandas or polars, an Arrow table or what else offers Arrow, or an iterable of dicts.
    preset, toxic_set, metric: as the options of `saefilter score`; `settings` has all the others.
    output: where to keep the scores file; without it, it lives as long as the result.
    resume, overwrite: as the options.
    workers: processes that share the work; None for one per GPU. They import the program's main module
        anew, so a script that wants several needs `if __name__ == "__main__"`.
    scorer: a loaded `RowScorer`, to score several datasets with one; it has settings of its own.
    progress: whether to show a bar; None for one in notebooks only.

    Raises SaefilterError, and then writes nothing; `saefilter.watch.Interrupted` after Ctrl-C.
    """
    if scorer is not None and workers not in (None, 1):
        raise SaefilterError(
            "workers has no effect with a scorer, which is one process", remedy="Leave one out."
        )
    if output is None and (resume or overwrite):
        raise SaefilterError(
            "resume and overwrite have no effect without output", remedy="Leave them out."
        )
    made = _asked(preset, toxic_set, metric, settings, scorer).settings
    with scratch() as folder:
        return _score(
            hold(data, folder),
            made if workers == 1 else replace(made, workers=workers),
            output, resume=resume, overwrite=overwrite, scorer=scorer, progress=progress,
        )  # fmt: skip


def filter(
    data: Data,
    scores: ScoresFile | PathLike | None = None,
    *,
    drop_frac: float | None = None,
    drop_count: int | None = None,
    min_distance: float | None = None,
    drop: str | None = None,
    drop_fdr: float | None = None,
    keep_balance: str | None = None,
    by: Sequence[str] = (),
    decisions: PathLike | None = None,
    strategy: str = "closest",
    seed: int = 0,
    options: StrategyOptions | None = None,
    preset: str | None = None,
    toxic_set: PathLike | None = None,
    metric: str | None = None,
    settings: ScoreSettings | None = None,
    scorer: RowScorer | None = None,
    output: PathLike | None = None,
    overwrite: bool = False,
    report_rows: int = 5_000,
    watch: Watch | None = None,
    progress: bool | None = None,
) -> Filtered:
    """Drop the rows closest to toxic features.

    scores: of `score`, or its file; without them the data are scored first, with `preset` and the
        other arguments that it takes.
    drop_frac, drop_count, min_distance, drop ("auto"): how much to drop; exactly one of them, or none with
        `decisions`.
    drop_fdr, keep_balance, by: as the command's options.
    decisions: file of a review, whose rows stay or go whatever their distance; the cut is over the others.
    strategy: `closest`, `random` as a control, another of docs/strategies.md, or one of another package.
    options: what the strategy is told, as `saefilter.StrategyOptions`.
    output: write kept, dropped and quarantined rows and the report there too, as the command does.
    report_rows: how many rows can be looked through in that report.
    watch: told what the strategy has to say, as what a judge will cost; else that goes to standard error.
    progress: as for `score`; a `watch` that is given is told instead of a strategy's bar.

    Raises SaefilterError when the scores are of other data, or the request makes no sense.
    """
    if decisions is not None and (drop_frac, min_distance, drop) == (None,) * 3:
        drop_count = drop_count or 0  # only what they drop goes
    selection = Selection(
        strategy, drop_frac, drop_count, min_distance, seed, options or StrategyOptions(),
        drop, drop_fdr, tuple(by) or None, keep_balance,
    )  # fmt: skip
    selection.check()
    if by and output is None:
        raise SaefilterError(
            "by has no effect without output, in whose report it counts", remedy="Leave it out."
        )
    with scratch() as folder:
        held = hold(data, folder)
        decided = _decided(held, decisions)
        write = _writer(held, output, overwrite=overwrite, report_rows=report_rows)
        opened = _scores_of(held, scores, preset, toxic_set, metric, settings, scorer, progress)
        with _watching(strategy, progress, lambda text: print(text, file=sys.stderr)) as own:
            choice = _chosen(held, opened, selection, decided, watch or own)
        if write is not None:
            write(scores=opened, selection=selection, choice=choice)
        return taken_apart(held, opened, choice)


def check(
    data: Data,
    scores: ScoresFile | PathLike | None = None,
    *,
    max_flagged: str | float | None = None,
    at_fpr: str | float | None = None,
    min_chance: float | None = None,
    max_proximity: float | None = None,
    max_spillover: float | None = None,
    min_scored: str | float | None = None,
    max_quarantined: str | float | None = None,
    preset: str | None = None,
    toxic_set: PathLike | None = None,
    metric: str | None = None,
    settings: ScoreSettings | None = None,
    scorer: RowScorer | None = None,
    progress: bool | None = None,
) -> Verdict:
    """Judge a dataset by limits: `check(...).passed`, and each rule's measured value and worst rows.

    Limits are those of `saefilter check`: shares as "5%" or 0.05; without any, the project's settings
    file or the default policy. The other arguments are those of `filter`.

    Raises SaefilterError when the scores are of other data, or there is no verdict to be had.
    """
    from saefilter.gate.evaluate import evaluate
    from saefilter.gate.policy import choose_policy

    policy = choose_policy(
        {
            "max_flagged": max_flagged, "at_fpr": at_fpr, "min_chance": min_chance,
            "max_proximity": max_proximity,
            "max_spillover": max_spillover, "min_scored": min_scored,
            "max_quarantined": max_quarantined,
        }
    )  # fmt: skip
    with scratch() as folder:
        held = hold(data, folder)
        given = (preset, toxic_set, metric, settings, scorer, progress)
        return evaluate(held.source, _scores_of(held, scores, *given), policy)


def _scores_of(
    held: Held,
    scores: ScoresFile | PathLike | None,
    preset: str | None,
    toxic_set: PathLike | None,
    metric: str | None,
    settings: ScoreSettings | None,
    scorer: RowScorer | None,
    progress: bool | None,
) -> ScoresFile:
    """The scores that are given, or new ones."""
    if scores is None:
        made = _asked(preset, toxic_set, metric, settings, scorer).settings
        return _score(held, made, None, scorer=scorer, progress=progress)
    if scorer is not None:
        raise SaefilterError(
            "the scorer has no effect: scores are given", remedy="Leave one of them out."
        )
    opened = scores if isinstance(scores, ScoresFile) else Scores.open(located(scores))
    opened.check_belongs(held.source)
    refuse_others(opened, _asked(preset, toxic_set, metric, settings, None))
    return opened


def _decided(held: Held, decisions: PathLike | None) -> Decisions | None:
    """A review's file. Raises SaefilterError where it is of other data, before anything is scored."""
    if decisions is None:
        return None
    decided = Decisions.open(located(decisions))
    decided.check_belongs(held.source.sha256(), str(held.source.path))
    return decided


def _writer(
    held: Held, output: PathLike | None, *, overwrite: bool, report_rows: int
) -> Callable[..., Any] | None:
    """What writes the files that the command writes. Raises SaefilterError where it would not, before anything is
    scored."""
    if output is None:
        if overwrite:
            raise SaefilterError("overwrite has no effect without output", remedy="Leave it out.")
        return None
    if report_rows < 0:
        raise SaefilterError(f"report_rows is {report_rows}, and 0 shows none")
    from saefilter.filtering.folder import writer_to
    from saefilter.filtering.layout import goes_to_folder
    from saefilter.filtering.soft import SoftOptions

    source, place = held.source, located(output)
    return writer_to(
        place, source, SoftOptions(),
        folder=goes_to_folder(source, place), overwrite=overwrite, report_rows=report_rows,
    )  # fmt: skip


def _chosen(
    held: Held,
    scores: ScoresFile,
    selection: Selection,
    decisions: Decisions | None,
    watch: Watch,
) -> Choice:
    """Which rows go, by the selection and by a review's decisions."""
    from saefilter.filtering.job import candidates_of

    scores.verify()
    candidates = candidates_of(held.source, scores, watch)
    if decisions is None:
        return choose(candidates, selection)
    return choose_decided(candidates, selection, decisions)


def _asked(
    preset: str | None,
    toxic_set: PathLike | None,
    metric: str | None,
    settings: ScoreSettings | None,
    scorer: RowScorer | None,
) -> Asked:
    """The settings that hold. Those of an object are complete, but for a model that it does not name;
    without one the project's file counts, as on the command line."""
    given: dict[str, Any] = {"preset": preset, "metric": metric}
    given["toxic_set"] = None if toxic_set is None else os.fspath(toxic_set)
    given = {name: value for name, value in given.items() if value is not None}
    if settings is not None and not isinstance(settings, ScoreSettings):
        raise SaefilterError(f"settings is a {type(settings).__name__}, not a ScoreSettings")
    if scorer is not None:
        if given or settings is not None:
            raise SaefilterError(
                "a scorer has its own settings; preset, toxic_set, metric and settings exclude it"
            )
        return Asked(scorer.settings, {})
    asked = ask(given, origin="the argument") if settings is None else ask_with(settings, given)
    # other processes import the program's main module, so none starts unless the program asks for it
    workers = (settings.workers if settings is not None else None) or 1
    return Asked(replace(asked.settings, workers=workers), asked.origin)


def _score(
    held: Held,
    settings: ScoreSettings,
    output: PathLike | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    scorer: RowScorer | None = None,
    progress: bool | None = None,
) -> Scores:
    from saefilter.scoring.score import score_file

    own_folder = None  # of the file that nobody named
    if output is None:
        own_folder = tempfile.TemporaryDirectory(prefix="saefilter-")
        output = Path(own_folder.name) / "scores.parquet"
    path = located(output)
    with _watching("Scoring", progress) as watch:
        score_file(
            held.source, path, settings,
            resume=resume, overwrite=overwrite, scorer=scorer, watch=watch,
        )  # fmt: skip
    scores = Scores.open(path)
    scores = replace(scores, said=said_of(held, scores))
    if own_folder is not None:
        weakref.finalize(scores, own_folder.cleanup)
    return scores
