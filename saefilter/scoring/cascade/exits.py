"""Early exit: one pass in which rows that are certainly far stop at an early layer, and the others go on.

What tells them apart is a guess that a pilot taught, which is drawn before anything is read. Rows that go on
are the first of the front; the audit is drawn among the others afterwards, and so the bound on the recall is the
same. A row that stopped here and is needed after all is read later, from its first layer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.encode.batches import Batch, scored_counts
from saefilter.rows.rendered import Window
from saefilter.scoring.cascade.plan import plan_audit
from saefilter.scoring.cascade.predict import Prediction
from saefilter.scoring.cascade.readers import EarlyReader, View, early_vectors
from saefilter.scoring.cascade.screen import screened_table
from saefilter.scoring.job import Job, Receipt, ShardRows
from saefilter.scoring.scorer import Measured
from saefilter.scoring.shard import no_memory_is_an_error, timed, written
from saefilter.stats.audit import Goal
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from saefilter.encode.early import EarlyModel
    from saefilter.encode.encoded import Encoded
    from saefilter.encode.encoder import Encoder
    from saefilter.scoring.prepare import Prepared
    from saefilter.scoring.scorer import RowScorer

STOP, ASK, GO = 0, 1, 2
"""What becomes of a row at the layer: it stops, the guess is asked, it goes on."""
PLANNED = 50_000
"""Rows of the miniature on which is planned how deep the sweep goes, at most."""


@dataclass(frozen=True)
class ExitRule:
    """Which rows go on."""

    prediction: Prediction
    limit: float
    """Rows whose distance is guessed to be larger stop."""
    known: NDArray[np.int64]
    """Ids of rows that were read before, which stop."""

    def fates(self, row_ids: Sequence[int]) -> NDArray[np.int64]:
        """STOP or ASK, `[n]`."""
        return np.where(np.isin(row_ids, self.known), STOP, ASK)


def exit_limit(prediction: Prediction, distance: NDArray[np.float64], goal: Goal, n: int) -> float:
    """Guessed distance up to which rows go on: as deep as the audit is expected to let the front end.
    Infinite where it is expected that nearly all rows are needed.

    By the pilot: `distance`, `[n_pilot]`, are of the rows that `prediction` was fitted to. Their guesses, each
    made without it, stand for those of `n` rows, of which `goal` asks the nearest.
    """
    guess = np.sort(distance - prediction.errors)
    many = guess[np.arange(n) * len(guess) // n]
    plan = plan_audit(many, prediction.errors, np.zeros(0), goal, n)
    if plan is None:
        return float("inf")
    return float(many[min(plan[1], n - 1)])


class EarlyPass:
    """Batches of some windows, read to the layer and, those rows that the rule lets on, to the hook."""

    def __init__(
        self,
        encoder: Encoder,
        model: EarlyModel,
        rule: ExitRule | None,
        fates: NDArray[np.int64],
    ):
        """`fates`: of rows. Several threads may read."""
        self._encoder, self._model, self._rule, self._fates = encoder, model, rule, fates
        self._lock = threading.Lock()
        self._sums: dict[int, tuple[NDArray[np.float32], int]] = {}
        """Window, by its identity -> sum over its scored tokens, and padded tokens that it took. A batch for which
        memory lacked is read again in halves, and then counts once."""

    def read(self, batch: Batch) -> tuple[Batch, Tensor]:
        """See encode.encoder.Reads."""
        import torch

        from saefilter.encode.early import summed

        padded, counts = self._encoder.padded(batch), scored_counts(batch.windows)
        chosen: NDArray[np.bool_] = np.zeros(len(counts), dtype=np.bool_)

        def choose(hidden: Tensor) -> Tensor:
            sums = summed(hidden[padded.scored.to(hidden.device)].float(), counts)
            with self._lock:
                for window, one in zip(batch.windows, sums, strict=True):
                    self._sums[id(window)] = one, padded.ids.shape[1]
            chosen[:] = self._goes_on(batch, sums, counts)
            return torch.from_numpy(chosen)

        tokens = self._model.read_on(padded, choose)
        return Batch([batch.windows[place] for place in np.flatnonzero(chosen)]), tokens

    def _goes_on(
        self, batch: Batch, sums: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        fate = self._fates[[window.row for window in batch.windows]]
        if self._rule is None or not (fate == ASK).any():
            return np.asarray(fate != STOP)
        tokens: NDArray[np.float32] = np.maximum(counts, 1).astype(np.float32)
        means: NDArray[np.float32] = np.divide(sums, tokens[:, None])
        guess = self._rule.prediction.distance(early_vectors(means, counts).astype(np.float32))
        return np.asarray((fate == GO) | ((fate == ASK) & ~(guess > self._rule.limit)))

    def view(self, windows: Sequence[Window], n_rows: int) -> View:
        """What the rows' windows gave at the layer. All of them must have been read."""
        sums: NDArray[np.float32] = np.zeros((n_rows, self._encoder.sae.d_model), dtype=np.float32)
        tokens, tally = np.zeros(n_rows, dtype=np.int64), Tally()
        for window, count in zip(windows, scored_counts(windows).tolist(), strict=True):
            own, padded = self._sums[id(window)]
            sums[window.row] += own
            tokens[window.row] += count
            tally += Tally(len(window.ids), padded, 0, count)
        sums /= np.maximum(tokens, 1)[:, None].astype(np.float32)
        return View(early_vectors(sums, tokens), tokens > 0, tally)


@dataclass(frozen=True)
class SweepShard:
    """Work on a shard, see engine.Work: all its rows are seen after the early layer, and those that go on are
    scored. What was seen goes to the job's folder, after what was scored went to the other's."""

    scores: Job
    """Whose folder the scores go to."""
    rule: ExitRule | None
    """None: all rows go on."""

    def __call__(
        self, job: Job, scorer: RowScorer, read: ShardRows, advance: Callable[[int], None]
    ) -> Receipt:
        reader = scorer.cheap
        assert isinstance(reader, EarlyReader)
        seen, spent = {"read": read.seconds}, {"read": 0.0}
        with no_memory_is_an_error():
            prepared = scorer.preparer.prepare(read.rows, job.kind)
            seen["render"] = prepared.seconds
            fates = _fates(prepared, self.rule)
            through = EarlyPass(scorer.encoder, reader.model, self.rule, fates)
            with timed(spent, "encode"):
                encoded = scorer.encoder.encode(
                    prepared.windows, prepared.texts, **scorer.encoding, advance=advance,
                    read=through.read,
                )  # fmt: skip
            view = through.view(prepared.windows, len(prepared))
            on, encoded = _of_rows(np.flatnonzero(encoded.n_tokens > 0), prepared, encoded)
            with timed(spent, "geometry"):
                measured = scorer.measure(on, encoded)
        written(self.scores, scorer, read, on, measured, encoded.tally, spent)
        table = screened_table(prepared, view.vectors, view.known)
        return written(job, scorer, read, prepared, Measured(table, None), view.tally, seen)


def _fates(prepared: Prepared, rule: ExitRule | None) -> NDArray[np.int64]:
    """Rows of several windows go on, whatever is guessed of them: a batch may hold one of these alone."""
    if rule is None:
        return np.full(len(prepared), GO)
    fates = rule.fates(prepared.row_id)
    windows = np.bincount([window.row for window in prepared.windows], minlength=len(prepared))
    fates[(windows > 1) & (fates == ASK)] = GO
    return fates


def _of_rows(
    places: NDArray[np.int64], prepared: Prepared, encoded: Encoded
) -> tuple[Prepared, Encoded]:
    """Some of the rows, as if they had been all. Without windows."""
    chosen = places.tolist()
    lists = ("row_id", "line", "file", "row_hash", "problem", "rendered", "format", "notes")
    some: dict[str, Any] = {
        name: [getattr(prepared, name)[place] for place in chosen] for name in lists
    }
    return (
        replace(prepared, **some, windows=[], desirable=None),
        replace(
            encoded,
            features=encoded.features[places],
            residual=encoded.residual[places],
            n_tokens=encoded.n_tokens[places],
            top_tokens=[encoded.top_tokens[place] for place in chosen],
        ),
    )
