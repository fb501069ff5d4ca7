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
from saefilter.rows.formats import Conversation, RowProblem, Understood, understand
from saefilter.rows.render import PlainRenderer, RenderedRow, Window
from saefilter.rows.row import Row
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
    """Of all rows; `Window.row` is the position in these lists."""
    seconds: float
    """Spent on it."""

    def __len__(self) -> int:
        return len(self.row_id)


def conversation_of(row: Row, columns: Columns | None = None) -> Conversation | str:
    """The row's conversation, or why there is none."""
    found = understood_of(row, columns)
    return found if isinstance(found, str) else found.conversation


def understood_of(row: Row, columns: Columns | None = None) -> Understood | str:
    """What the row is read as to be scored, or why it cannot be."""
    if row.data is None:
        return row.error or "unreadable"
    try:
        understood = understand(row.data, columns)
        understood.refuse_preference()
    except RowProblem as problem:
        return str(problem)
    return understood


def prepare(renderer: PlainRenderer, rows: Sequence[Row]) -> Prepared:
    """Render some rows; one that cannot be rendered keeps its problem."""
    started = time.perf_counter()
    columns = Columns.parse(renderer.options.columns)
    outcomes = [understood_of(row, columns) for row in rows]
    places = [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
    texts, windows = renderer.render(
        [outcome.conversation for outcome in outcomes if not isinstance(outcome, str)]
    )
    problem = [outcome if isinstance(outcome, str) else None for outcome in outcomes]
    rendered: list[RenderedRow | None] = [None] * len(rows)
    for place, text in zip(places, texts, strict=True):
        rendered[place] = text
        problem[place] = text.problem
    return Prepared(
        row_id=[row.index for row in rows],
        line=[row.line for row in rows],
        file=[row.file for row in rows],
        row_hash=[row.digest() for row in rows],
        problem=problem,
        rendered=rendered,
        format=[
            None if isinstance(outcome, str) or why else outcome.format
            for outcome, why in zip(outcomes, problem, strict=True)
        ],
        notes=[
            () if isinstance(outcome, str) or why else outcome.notes
            for outcome, why in zip(outcomes, problem, strict=True)
        ],
        windows=[window._replace(row=places[window.row]) for window in windows],
        seconds=time.perf_counter() - started,
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

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """The rows, prepared. Raises SaefilterError when a process died."""
        if self._pool is not None:
            with died_is_an_error("Use fewer --prepare-workers."):
                return self._pool.submit(_prepare, list(rows)).result()
        with self._lock:
            return prepare(self._renderer, rows)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            end_pool(self._pool)


_renderer: PlainRenderer | None = None


def _start_process(spec: RendererSpec) -> None:
    global _renderer
    be_a_worker()
    _renderer = spec.load()


def _prepare(rows: list[Row]) -> Prepared:
    assert _renderer is not None
    return prepare(_renderer, rows)
