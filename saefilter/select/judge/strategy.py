"""The strategy `judge`: rows that a language model finds most harmful first. The baseline that reads."""

from __future__ import annotations

import numpy as np

from saefilter.errors import SaefilterError
from saefilter.select.judge.judge import Judged, cost_of, judge
from saefilter.select.judge.prompt import Prompt
from saefilter.select.judge.settings import JudgeSettings
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection, count_of
from saefilter.text import one_line, rows_of

REASON = "harmful by the judge"
NO_JUDGEMENT = "without a judgement"


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest score first. Judges give few different scores: equal ones go in an order drawn by the
    seed, since the input's order may be that of its sources.

    Raises SaefilterError for rows without a judgement, unless they are to be kept; then they go
    last, and an error is to drop more than have a judgement.
    """
    settings = selection.options.judge
    if settings is None:
        raise SaefilterError("--strategy judge needs --judge-url and --judge-model")
    judged = judge(candidates.conversations, settings, candidates.watch)
    if judged.failures:
        _check_failures(judged, candidates, selection, settings)
    scores = np.array(
        [np.nan if judgement is None else judgement.score for judgement in judged.judgements],
        dtype=np.float64,
    )
    drawn = selection.draws().permutation(len(scores))
    order = drawn[np.argsort(-scores[drawn], kind="stable")]  # NaN goes last
    reasons = [
        NO_JUDGEMENT
        if judgement is None
        else f"judge {judgement.score:g}: {one_line(judgement.reason)}"
        for judgement in judged.judgements
    ]
    return Ranking(
        order, REASON, scores, "judge's score, 0 to 100", reasons, _details(judged, settings)
    )


def _check_failures(
    judged: Judged, candidates: Candidates, selection: Selection, settings: JudgeSettings
) -> None:
    def name(position: int) -> str:
        if candidates.scores is None:
            return f"row {int(candidates.row_ids[position]) + 1}"
        row = int(candidates.row_ids[position])
        return f"line {candidates.scores.read(['line'])['line'][row].as_py()}"

    n_judged = len(judged.judgements) - len(judged.failures)
    words = judged.failure_words(name)
    if settings.on_failure == "error":
        raise SaefilterError(
            f"{words}; nothing was written",
            remedy=f"{n_judged:,} judgements are kept in {settings.cache_file()}: the same command "
            "asks for the others only. Or keep these rows with --judge-on-failure keep.",
        )
    candidates.watch.say(f"{words}; they are kept, whatever they say")
    count = count_of(selection, len(judged.judgements))
    if count is not None and count > n_judged:
        raise SaefilterError(
            f"{rows_of(count)} are to be dropped and only {n_judged:,} have a judgement",
            remedy="Drop fewer, or run the same command again to ask for the missing judgements.",
        )


def _details(judged: Judged, settings: JudgeSettings) -> dict[str, object]:
    """The same for a run that asked and one that found every judgement in the cache."""
    judgements = [judgement for judgement in judged.judgements if judgement is not None]
    # equal rows share theirs
    distinct = list({id(judgement): judgement for judgement in judgements}.values())
    tokens_in = sum(judgement.tokens_in for judgement in distinct)
    tokens_out = sum(judgement.tokens_out for judgement in distinct)
    cost = cost_of(settings, tokens_in, tokens_out)
    return {
        "prompt_sha256": Prompt.load(settings.prompt).sha256,
        "rows_judged": len(judgements),
        "rows_without_verdict": len(judged.failures),
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        **({} if cost is None else {"cost": cost}),
    }
