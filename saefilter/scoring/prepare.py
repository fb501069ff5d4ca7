"""From rows to what the model reads: recognised, rendered, tokenised. In this process or in several.

Needs the tokenizer and no model, so that it can run beside the model: in a thread (the model computes
without holding Python's lock), or in processes of its own where one thread could not keep up.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saefilter.columns import Columns
from saefilter.rows.formats import Conversation, RowProblem, Understood, recognise, understand
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderedRow, Window
from saefilter.rows.row import Row
from saefilter.rows.sides import ANSWERS, KINDS, PAIRS, SIDES, kind_of, sides_of
from saefilter.scoring.processes import be_a_worker, died_is_an_error, end_pool

if TYPE_CHECKING:
    from saefilter.encode.rendering import RendererSpec

MAX_PROCESSES = 4


@dataclass(frozen=True)
class Prepared:
    """Rows ready for the model; one entry per row in every list but `windows`."""

    row_id: list[int]
    line: list[int]
    file: list[str | None]
    row_hash: list[str]
    problem: list[str | None]
    """Why a row cannot be scored; None when it can."""
    rendered: list[RenderedRow | None]
    """None where there is no conversation to render."""
    format: list[str | None]
    """As what each row was read; None where it cannot be scored."""
    notes: list[tuple[str, ...]]
    """What of it is not scored, or is odd."""
    windows: list[Window]
    """Of all texts; `Window.row` is the position in these lists, and for rejected answers as many more
    as there are rows."""
    seconds: float
    """Spent on it."""
    kind: str = ANSWERS
    """What the rows train on, of KINDS."""
    rejected: list[RenderedRow | None] | None = None
    """Of pairs the other answer; `rendered` is then of the chosen one."""
    desirable: list[bool | None] | None = None
    """Labels of KTO rows."""

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def texts(self) -> int:
        """Places for texts that the windows are of."""
        return len(self) * (1 if self.rejected is None else 2)


def conversation_of(row: Row, columns: Columns | None = None) -> Conversation | str:
    """The row's conversation, or why there is none."""
    try:
        return (row.error or "unreadable") if row.data is None else recognise(row.data, columns)
    except RowProblem as problem:
        return str(problem)


def understood_of(
    row: Row, columns: Columns | None = None, kind: str | None = None
) -> Understood | str:
    """What the row is read as to be scored, or why it cannot be; with `kind`, among rows of that kind."""
    if row.data is None:
        return row.error or "unreadable"
    try:
        understood = understand(row.data, columns)
    except RowProblem as problem:
        return str(problem)
    if kind is not None and (own := kind_of(understood)) != kind:
        return (
            f"it is of another kind than the first rows: this one is of {KINDS[own]}, those are "
            f"{KINDS[kind]}, and one ranking cannot hold both; put it in a file of its own"
        )
    return understood


def prepare(renderer: PlainRenderer, rows: Sequence[Row], kind: str = ANSWERS) -> Prepared:
    """Render some rows of a kind; one that is of another, or cannot be rendered, keeps its problem."""
    started = time.perf_counter()
    columns = Columns.parse(renderer.options.columns)
    outcomes = [understood_of(row, columns, kind) for row in rows]
    problem = [outcome if isinstance(outcome, str) else None for outcome in outcomes]
    fit = {i: outcome for i, outcome in enumerate(outcomes) if not isinstance(outcome, str)}
    sides = [(i, side, text) for i, one in fit.items() for side, text in enumerate(sides_of(one))]
    texts, windows = renderer.render([text for _, _, text in sides])
    rendered: tuple[list[RenderedRow | None], ...] = tuple([None] * len(rows) for _ in SIDES)
    for (i, side, _), text in zip(sides, texts, strict=True):
        rendered[side][i] = text
        if text.problem is not None and problem[i] is None:
            problem[i] = text.problem + (f" ({SIDES[side]} answer)" if kind == PAIRS else "")
    place = [i + side * len(rows) for i, side, _ in sides]
    good = {i: one for i, one in fit.items() if problem[i] is None}
    return Prepared(
        row_id=[row.index for row in rows],
        line=[row.line for row in rows],
        file=[row.file for row in rows],
        row_hash=[row.digest() for row in rows],
        problem=problem,
        rendered=rendered[0],
        format=[good[i].format if i in good else None for i in range(len(rows))],
        notes=[good[i].notes if i in good else () for i in range(len(rows))],
        windows=[
            window._replace(row=place[window.row])
            for window in windows
            if problem[place[window.row] % len(rows)] is None  # one side alone says nothing
        ],
        seconds=time.perf_counter() - started,
        kind=kind,
        rejected=rendered[1] if kind == PAIRS else None,
        desirable=[fit[i].desirable if i in fit else None for i in range(len(rows))],
    )


def default_processes(device: str) -> int:
    """How many processes prepare rows, where nobody says: on a CPU none, since a thread costs the
    model less than another process would; beside a GPU a few, where there are cores for them."""
    return 0 if device == "cpu" else min(MAX_PROCESSES, (os.cpu_count() or 1) // 4)


class Preparer:
    """Prepares rows for several callers at a time."""

    def __init__(self, renderer: PlainRenderer, spec: RendererSpec, processes: int = 0):
        """`spec` makes the same renderer in another process; with 0 `processes` it is done in the
        caller's thread, one caller at a time."""
        self._renderer = renderer
        self._lock = threading.Lock()  # a tokenizer serves one thread at a time
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None
        if processes:
            context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
            self._pool = ProcessPoolExecutor(processes, context, _start_process, (spec,))

    def prepare(self, rows: Sequence[Row], kind: str = ANSWERS) -> Prepared:
        """The rows, prepared. Raises SaefilterError when a process died."""
        if self._pool is not None:
            with died_is_an_error("Use fewer --prepare-workers."):
                return self._pool.submit(_prepare, list(rows), kind).result()
        with self._lock:
            return prepare(self._renderer, rows, kind)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            end_pool(self._pool)


_renderer: PlainRenderer | None = None


def _start_process(spec: RendererSpec) -> None:
    global _renderer
    be_a_worker()
    _renderer = spec.load()


def _prepare(rows: list[Row], kind: str) -> Prepared:
    assert _renderer is not None
    return prepare(_renderer, rows, kind)
