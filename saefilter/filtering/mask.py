"""`filter --as mask`: of the rows that would be dropped, only the turns or sentences that make them close are
left out of training, by marks that a trainer reads.

A part is left out that is at least as close as the farthest row that would be dropped; where a row has
none, its closest part. A row whose parts cannot be told apart is left out as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.provenance import Provenance
from saefilter.errors import SaefilterError
from saefilter.filtering.soft import MASK, Notes, Soft, SoftOptions, TurnMarks
from saefilter.rows.formats import (
    ASSISTANT,
    COMPLETION_TEXT,
    TEXT,
    Conversation,
    Message,
    RowProblem,
    recognise,
)
from saefilter.rows.pieces import Piece
from saefilter.rows.trained import trained_messages
from saefilter.scoring.spans import (
    Place,
    located,
    part_scores,
    scorer_like,
    trained_regions,
)
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Choice
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.rows.chat import ChatRenderer

COLUMNS = ("messages", "conversations")
"""That hold turns, in the order in which formats are looked for."""
DETAIL = pa.list_(
    pa.struct([("begin_offset", pa.int32()), ("end_offset", pa.int32()), ("train", pa.bool_())])
)
KEYS: dict[str, dict[str, pa.DataType]] = {
    "axolotl": {"train": pa.bool_(), "train_detail": DETAIL},
    "openai": {"weight": pa.int32()},
}
UNTRAINED = -100
"""PyTorch's label of a token without loss."""


@dataclass(frozen=True)
class LeftOut:
    """What is left out of one row."""

    places: list[Place] | None
    """None for all of it, where its parts cannot be told apart."""
    empties: bool
    """Whether nothing is left to train on."""


def masked(
    options: SoftOptions, candidates: Candidates, choice: Choice, settings: ScoreSettings
) -> Soft:
    """The marks of all rows. Reads the rows that would be dropped again, part by part, with the model.

    Raises SaefilterError where the rows have no turns to mark, or the model cannot be had.
    """
    scores, source = candidates.scores, candidates.source
    assert scores is not None
    assert source is not None
    made = scores.provenance
    columns = made.own_columns
    _refuse_what_has_no_parts(candidates)
    by = options.mask or "turns"
    mask_for = options.mask_for or "axolotl"
    column = None if mask_for == "trl" else _column(candidates)
    left_out = _left_out(candidates, choice, made, settings, by)
    about: dict[str, Any] = {
        "as": MASK, "how": by, "for": mask_for, "rows": len(left_out),
        "whole": sum(one.places is None for one in left_out.values()),
        "parts": sum(len(one.places or []) for one in left_out.values()),
        "emptied": sum(one.empties for one in left_out.values()),
    }  # fmt: skip
    if column is None:
        notes = _token_labels(options, made, left_out)
        return Soft(notes, {**about, "columns": list(notes.types.names)})
    keys = dict(KEYS[mask_for])
    if by == "turns":
        keys.pop("train_detail", None)

    def marks(row: dict[str, Any], row_id: int) -> list[dict[str, Any]]:
        return _turn_marks(
            row[column], recognise(row, columns), left_out.get(row_id), made, mask_for, by
        )

    return Soft(TurnMarks(column, keys, marks), {**about, "turns": column, "keys": list(keys)})


def _refuse_what_has_no_parts(candidates: Candidates) -> None:
    """Raises SaefilterError for rows that are no single answer, such as preference pairs."""
    assert candidates.scores is not None
    for row in candidates.rows():
        try:
            recognise(row.data or {}, candidates.scores.provenance.own_columns)
        except RowProblem as problem:
            raise SaefilterError(
                f"--as mask marks parts of what a row trains on, and row {row.index + 1} is {problem}",
                remedy="Use --as weights or --as labels.",
            ) from problem


def _column(candidates: Candidates) -> str:
    """The column of turns that all rows have. Raises SaefilterError where there is none."""
    columns = {
        next((c for c in COLUMNS if isinstance((row.data or {}).get(c), list)), None)
        for row in candidates.rows()
    }
    if len(columns) == 1 and (column := columns.pop()) is not None:
        return column
    raise SaefilterError(
        "marks are set in the turns of 'messages' or 'conversations', and not all rows have a list of turns "
        "in the same one",
        remedy="Use --mask-for trl, which writes tokens and labels, or --as weights.",
    )


def _left_out(
    candidates: Candidates, choice: Choice, made: Provenance, settings: ScoreSettings, by: str
) -> dict[int, LeftOut]:
    ids = candidates.row_ids[choice.dropped]
    if not len(ids):
        return {}
    farthest = float(candidates.distance[choice.dropped].max())
    assert candidates.source is not None
    scorer = scorer_like(made, settings)
    left_out = {}
    try:
        for row, _, parts in part_scores(
            scorer, candidates.source.rows(set(ids.tolist())), by, made.own_columns
        ):
            close = [part.place for part in parts if part.distance <= farthest]
            if parts and not close:
                close = [min(parts, key=lambda part: part.distance).place]
            left_out[row.index] = LeftOut(close if parts else None, len(close) == len(parts))
    finally:
        scorer.close()
    return left_out


def _turn_marks(
    turns: list[dict[str, Any]], conversation: Conversation, left_out: LeftOut | None,
    made: Provenance, mask_for: str, by: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """The keys of each turn of a row, for the trainer that reads them."""
    head = len(conversation) - len(turns)  # tools and a system text of their own columns
    trained = trained_messages(conversation, mask_for if made.trainer else made.train_on)
    marks = []
    for number, (message, on) in enumerate(zip(conversation, trained, strict=True)):
        if number < head:
            continue
        gone = [] if left_out is None else left_out.places
        own = None if gone is None else [place for place in gone if place.message == number]
        turn = turns[number - head]
        same_text = turn.get("content", turn.get("value")) == message.content
        # characters of a text that the row has in several parts would name others there
        whole = own is None or _is_whole(own, message) or bool(own and not same_text)
        if mask_for == "openai":
            is_answer = message.role == ASSISTANT
            marks.append({"weight": int(on and not whole)} if is_answer else {})
            continue
        mark: dict[str, Any] = {"train": on and not whole}
        if by == "sentences":
            cut = bool(own) and on and not whole
            mark["train_detail"] = _detail(len(message.content), own or []) if cut else None
        marks.append(mark)
    return marks


def _is_whole(places: Sequence[Place], message: Message) -> bool:
    """Whether places in a message are all of it."""
    own = sum(place.end - place.start for place in places)
    return bool(places) and own == len(message.content)


def _detail(length: int, gone: Sequence[Place]) -> list[dict[str, Any]]:
    """axolotl's `train_detail`: stretches that are trained and not, which end with their last character.
    What no stretch names is not trained, so all of the content is named."""
    ends = sorted({0, length, *(place.start for place in gone), *(place.end for place in gone)})
    inside = [(place.start, place.end) for place in gone]
    return [
        {
            "begin_offset": start,
            "end_offset": end - 1,
            "train": not any(first <= start and end <= last for first, last in inside),
        }
        for start, end in pairwise(ends)
    ]


@dataclass(frozen=True)
class _Tokens:
    """Rows as TRL trains on them, by the tokenizer of the model to be trained."""

    text: ChatRenderer
    """For rows that are no chat, as TRL reads them."""
    chat: ChatRenderer
    contents: ChatRenderer
    """The turns alone, to find parts in the same text."""
    by: str

    def labelled(
        self, row_id: int, conversation: Conversation, left_out: LeftOut | None
    ) -> tuple[list[int], list[int]]:
        """Token ids of a row and what TRL is to learn of them. Raises SaefilterError."""
        is_text = any(m.role == TEXT or m.part == COMPLETION_TEXT for m in conversation)
        (rendered,), windows = (self.text if is_text else self.chat).render([conversation])
        if not rendered.text:
            raise SaefilterError(
                f"row {row_id + 1} cannot be tokenised for TRL: {rendered.problem}",
                remedy="Name the tokenizer of the model that you train: --tokenizer ID.",
            )
        if not windows:  # such as a text of one token, which nothing predicts
            ids = self.text.tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
            return ids, [UNTRAINED] * len(ids)
        (window,) = windows
        train = window.scored.copy()
        if left_out is not None:
            train &= ~self._gone(conversation, left_out, window.spans, is_text=is_text)
        return window.ids.tolist(), np.where(train, window.ids, UNTRAINED).tolist()

    def _gone(
        self, conversation: Conversation, left_out: LeftOut, spans: NDArray[np.int32], *,
        is_text: bool,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Which tokens are left out: those that reach into a part, and with a whole turn its end."""
        finder, train_on = (self.text, "trl") if is_text else (self.contents, "assistant")
        known = dict(located(finder, conversation, train_on, self.by))
        wanted = left_out.places
        if wanted is None or any(place not in known for place in wanted):
            return np.ones(len(spans), dtype=np.bool_)
        regions = trained_regions((self.text if is_text else self.chat).segments(conversation))
        apart = len(regions) == len({place.message for place in known})
        gone = np.zeros(len(spans), dtype=np.bool_)
        for place in wanted:
            start, end = known[place]
            own = [one for one in wanted if one.message == place.message]
            if apart and _is_whole(own, conversation[place.message]):
                start, end = next(
                    (at, at + len(text))
                    for at, text in regions
                    if at < end and at + len(text) > start
                )
            gone |= (spans[:, 1] > start) & (spans[:, 0] < end)
        return gone


def _token_labels(options: SoftOptions, made: Provenance, left_out: dict[int, LeftOut]) -> Notes:
    """`input_ids` and `labels` of every row."""
    from saefilter.encode.presets import preset_of
    from saefilter.rows.chat import ChatRenderer
    from saefilter.rows.render import load_tokenizer
    from saefilter.rows.rendered import RenderOptions

    name, path, revision = options.tokenizer, options.tokenizer, None
    if name is None or path is None:
        preset = preset_of(replace(ScoreSettings(), **(made.settings or {})))
        name, path, revision = preset.model, preset.model_path(), preset.revision
    tokenizer = load_tokenizer(path, revision)
    if not tokenizer.chat_template:
        raise SaefilterError(
            f"the tokenizer of {name} has no chat template, so it is not that of a model to be trained on "
            "conversations",
            remedy="Name the model that you train: --tokenizer ID.",
        )

    def renderer(trainer: str | None) -> ChatRenderer:
        whole = 1 << 30  # TRL cuts by itself
        return ChatRenderer(tokenizer, context=whole, options=RenderOptions(whole, trainer=trainer))

    text = renderer("trl")
    chat = text if made.trainer == "trl" else renderer("trl-assistant")
    tokens = _Tokens(text, chat, renderer(None), options.mask or "turns")
    types = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])

    def of(piece: Piece, positions: Sequence[int]) -> dict[str, list[list[int]]]:
        both = [
            tokens.labelled(
                piece.first + i,
                recognise(row or {}, made.own_columns),
                left_out.get(piece.first + i),
            )
            for row, i in zip(piece.values(positions), positions, strict=True)
        ]
        return {"input_ids": [ids for ids, _ in both], "labels": [labels for _, labels in both]}

    return Notes(types, of)
