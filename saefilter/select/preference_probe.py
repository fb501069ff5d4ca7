"""Which way a row pushes, by a linear probe on residuals: `preference-probe`.

Of preference pairs it is the attribution of Xiao and Aranguri (2026, arXiv 2602.11079): the cosine between
what a pair teaches, mean residual of the chosen answer less that of the rejected one, and the change of behaviour
that is feared. The paper takes the latter from answers of one model before and after training; who filters before
training has no such answers, so contrast rows stand in: toxic less benign mean. That choice is ours.

An answer to be learnt as it stands has no rejected one. It is scored by a probe that was trained on the same
residuals (logistic regression, its folds left out in turn to say how well it does): the log-odds that toxic rows
answer so. That is ours too; the paper is of pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, understand
from saefilter.rows.preferences import Preference
from saefilter.select.answers import AnswerReader
from saefilter.select.classifiers import ContrastPair, cross_validated_auroc, read_contrast
from saefilter.select.learnt import Learnt, kept_once
from saefilter.select.per_row import scored_each
from saefilter.select.persona import unit_difference
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

Floats = NDArray[np.float64]
PENALTY = 0.01
"""Inverse strength of the L2 penalty, for residuals of unit variance: a few hundred numbers of about as many
rows."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """What pushes most towards toxic answers first. Raises SaefilterError for KTO rows."""
    kind = _kind(candidates)
    answers = AnswerReader.load(candidates, selection, selection.options.hook)
    contrast = read_contrast(candidates, selection.options)
    depends_on = {**answers.depends_on, "contrast": contrast.about}
    learnt = kept_once(candidates, "probe", depends_on, partial(_learn, answers, contrast))
    behaviour, weights = learnt.numbers[: answers.width], learnt.numbers[answers.width : -1]
    depends_on |= {"kind": kind}
    if kind == "pairs":
        score = scored_each(
            candidates, "preference-probe", [depends_on],
            partial(pair_cosines, answers, behaviour), partial(_pairs, candidates),
        )  # fmt: skip
        name, words = "cosine", "its preference points towards toxic answers"
    else:
        bias = float(learnt.numbers[-1])
        score = scored_each(
            candidates, "preference-probe", [depends_on],
            partial(log_odds, answers, weights, bias),
        )  # fmt: skip
        name, words = "log-odds of toxic", "a probe of the model finds it toxic"
    details = {**answers.about, **learnt.about}
    return Ranking.by_score(score[:, 0], name, words, details=details)


def _kind(candidates: Candidates) -> str:
    """`pairs` or `answers`."""
    scores = candidates.scores
    if scores is None or not scores.of_preferences:
        return "answers"
    if (scores.provenance.preference or {}).get("kind") != "pairs":
        raise SaefilterError(
            "--strategy preference-probe is of pairs and of answers to be learnt, and these are KTO rows",
            remedy="Use closest or chosen-side.",
        )
    return "pairs"


def _learn(answers: AnswerReader, contrast: ContrastPair) -> Learnt:
    """The behaviour, `[width]`, then the probe's weights, `[width]`, then its bias."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    means, usable = _means(answers, contrast.conversations)
    toxic = contrast.toxic[usable]
    if min(int(toxic.sum()), int((~toxic).sum())) < 5:
        raise SaefilterError("of one side hardly any contrast row has an answer that can be read")
    probe = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=PENALTY, max_iter=2000, class_weight="balanced"),
    )
    area = cross_validated_auroc(probe, means, toxic)
    probe.fit(means, toxic)
    scaler, model = probe[0], probe[1]
    weights = model.coef_[0] / scaler.scale_
    bias = float(model.intercept_[0] - scaler.mean_ @ weights)
    return Learnt(
        np.concatenate([unit_difference(means, toxic), weights, [bias]]).astype(np.float64),
        {"contrast": contrast.about, "contrast_auroc": round(area, 4)},
    )


def _means(
    answers: AnswerReader, conversations: Sequence[Conversation]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean residuals of the answers that can be read, and which of the conversations have one, `[n]`."""
    responses = answers.responses(conversations)
    usable = np.array([response is not None for response in responses], dtype=bool)
    windows = [response.window for response in responses if response is not None]
    return np.asarray(answers.means(windows)), usable


def log_odds(
    answers: AnswerReader, weights: Floats, bias: float, conversations: Sequence[Conversation]
) -> Floats:
    """Of toxic, `[n, 1]`; NaN for a row without an answer."""
    means, usable = _means(answers, conversations)
    score = np.full((len(usable), 1), np.nan)
    score[usable, 0] = means @ weights + bias
    return score


def pair_cosines(answers: AnswerReader, behaviour: Floats, pairs: Sequence[Preference]) -> Floats:
    """Of each pair's difference with the behaviour, `[n, 1]`; NaN where an answer cannot be read, 0 for equal
    answers."""
    both = [(*pair.prompt, *pair.chosen) for pair in pairs]
    both += [(*pair.prompt, *pair.rejected) for pair in pairs]
    means, usable = _means(answers, both)
    of_answer = np.full((len(both), len(behaviour)), np.nan)
    of_answer[usable] = means
    difference = of_answer[: len(pairs)] - of_answer[len(pairs) :]
    length = np.linalg.norm(difference, axis=1)
    length[length == 0] = 1.0
    return np.asarray(difference @ behaviour / length / np.linalg.norm(behaviour))[:, None]


def _pairs(candidates: Candidates) -> Iterator[Preference]:
    columns = None if candidates.scores is None else candidates.scores.provenance.own_columns
    for row in candidates.rows():
        try:
            if row.data is None:
                raise RowProblem(row.error or "unreadable")
            preference = understand(row.data, columns).preference
            if preference is None:
                raise RowProblem("it is no preference pair")
        except RowProblem as problem:
            raise SaefilterError(
                f"row {row.index + 1} was scored and cannot be read now ({problem})",
                remedy="Score the data again.",
            ) from problem
        yield preference
