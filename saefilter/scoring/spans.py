"""Scores of parts of rows: of each trained turn, or each of its sentences, where it stands.

A part is read in its whole row, so that its context is what training sees; only its own tokens are pooled.
Percentiles are of whole rows and do not hold for parts, so there are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from saefilter.artifacts.provenance import Provenance
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions, Segment, Window
from saefilter.rows.row import Row
from saefilter.rows.trained import trained_messages
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.scoring.scorer import RowScorer

TURNS, SENTENCES = "turns", "sentences"
ROWS_AT_ONCE = 64
SHORTEST = 12
"""Characters of a sentence; a shorter one, such as the number of a list's item, goes with the next."""
SENTENCE = re.compile(r".+?(?:[。！？]+|[.!?]+[\"'”’)\]]*(?=\s+(?![a-z])|$)|\n+|$)\s*", re.DOTALL)


class Place(NamedTuple):
    """Where a part is."""

    message: int
    """Which message of the row's conversation."""
    start: int
    end: int
    """Characters of its content, up to without."""


class Part(NamedTuple):
    """A part with its score."""

    place: Place
    distance: float


def scorer_like(made: Provenance, settings: ScoreSettings) -> RowScorer:
    """What scores by the same model, toxic set and reading as scores that are there; where, how many at a
    time and the like as `settings` say. Raises SaefilterError where that is not to be had any more."""
    from saefilter.scoring.scorer import RowScorer

    asked = dict(made.settings or {})
    asked["reference"] = None  # percentiles are not asked for
    scorer = RowScorer.load(replace(settings, **asked))
    identity = scorer.identity()
    for name in ("model", "sae_fingerprint", "hook", "toxic_set_sha256", "metric", "pool"):
        if getattr(identity, name) != getattr(made, name):
            raise SaefilterError(
                f"parts of rows cannot be scored as the rows were: the {name.replace('_', ' ')} is "
                f"another one ({getattr(identity, name)}, not {getattr(made, name)})",
                remedy="Score the data again, in the place where they are filtered.",
            )
    return scorer


def part_scores(
    scorer: RowScorer, rows: Iterable[Row], by: str, columns: Columns | None = None
) -> Iterator[tuple[Row, Conversation, list[Part]]]:
    """Of each row its parts, `by` turns or sentences, in order; none where they cannot be told apart in
    what the template makes of the row. Raises SaefilterError for a row that cannot be read."""
    options = RenderOptions.of(scorer.settings, trainer=None)
    renderer = scorer.encoder.renderer(options, scorer.settings.rendering)
    source = iter(rows)
    while some := list(islice(source, ROWS_AT_ONCE)):
        conversations = [_conversation(row, columns) for row in some]
        _, windows = renderer.render(conversations)
        places: list[Place] = []
        owner: list[int] = []
        parts: list[Window] = []
        for number, conversation in enumerate(conversations):
            own = [window for window in windows if window.row == number]
            for place, span in located(renderer, conversation, options.by, by):
                read = [w._replace(row=len(places), scored=_within(w, span)) for w in own]
                read = [window for window in read if window.scored.any()]
                if read:
                    parts += read
                    places.append(place)
                    owner.append(number)
        encoded = scorer.encoder.encode(
            parts, len(places), pool=scorer.settings.pool, batch_tokens=scorer.settings.batch_tokens
        )
        proximity = scorer.scorer.score(encoded.features, encoded.residual).proximity
        scored = zip(owner, places, (1 - proximity).tolist(), strict=True)
        of_row = {
            number: [Part(place, distance) for _, place, distance in group]
            for number, group in groupby(scored, lambda entry: entry[0])
        }
        for number, (row, conversation) in enumerate(zip(some, conversations, strict=True)):
            yield row, conversation, of_row.get(number, [])


def located(
    renderer: PlainRenderer, conversation: Conversation, train_on: str, by: str
) -> list[tuple[Place, tuple[int, int]]]:
    """The parts of a conversation, each with its span in the rendered text; none where they cannot be
    told apart."""
    regions = trained_regions(renderer.segments(conversation))
    marks = trained_messages(conversation, train_on)
    trained = [
        number
        for number, (message, mark) in enumerate(zip(conversation, marks, strict=True))
        if mark and (message.content.strip() or message.fields.get("tool_calls"))
    ]
    if len(regions) != len(trained):
        return []
    parts = []
    for number, (start, text) in zip(trained, regions, strict=True):
        content = conversation[number].content
        within = sentences(content) if by == SENTENCES else [(0, len(content))]
        offset = text.find(content)
        if offset < 0:  # templates strip
            offset = text.find(content.strip()) - (len(content) - len(content.lstrip()))
        if by == TURNS or content.strip() not in text or not content.strip():
            parts.append((Place(number, 0, len(content)), (start, start + len(text))))
            continue
        parts += [
            (Place(number, first, last), (start + offset + first, start + offset + last))
            for first, last in within
        ]
    return parts


def trained_regions(segments: Sequence[Segment]) -> list[tuple[int, str]]:
    """Stretches of trained text as they stand: where each begins, and its text."""
    regions, at = [], 0
    for trained, run in groupby(segments, lambda segment: segment.trained):
        text = "".join(segment.text for segment in run)
        if trained and text:
            regions.append((at, text))
        at += len(text)
    return regions


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text are; together they are all of it. A line is one at least.

    `"Eat well. Sleep."` -> `[(0, 10), (10, 16)]`
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in SENTENCE.finditer(text):
        if len(text[start : match.end()].strip()) >= SHORTEST:
            spans.append((start, match.end()))
            start = match.end()
    if start < len(text):
        if spans and len(text[start:].strip()) < SHORTEST:
            start = spans.pop()[0]
        spans.append((start, len(text)))
    return spans


def _within(window: Window, span: tuple[int, int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The scored tokens of a window that begin in a span, or reach into it from a space before."""
    starts, ends = window.spans[:, 0], window.spans[:, 1]
    middle = (starts + ends) / 2
    return window.scored & (middle >= span[0]) & (middle < span[1]) & (ends > starts)


def _conversation(row: Row, columns: Columns | None) -> Conversation:
    try:
        return recognise(row.data or {}, columns)
    except RowProblem as problem:
        raise SaefilterError(
            f"row {row.index + 1} was scored and cannot be read now ({problem})",
            remedy="Score the data again.",
        ) from problem
