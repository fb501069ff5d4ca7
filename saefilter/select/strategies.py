"""From what was asked to the rows that are dropped: check the request, rank, take the first; and the
strategies that need no model: the paper's, which takes the rows closest to toxic features, and what it
must be held against (drawn at random, by known labels, and at random within equal labels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.described import described, option
from saefilter.errors import SaefilterError
from saefilter.plugins import STRATEGIES, plugin_error
from saefilter.select.balance import balanced, read_values
from saefilter.select.closest import smallest
from saefilter.select.ranking import ByDistance, Candidates, Ranking
from saefilter.select.registry import StrategyOptions, check_strategy, load_strategy
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.text import command_line

if TYPE_CHECKING:
    from saefilter.select.auto import Cut
    from saefilter.select.decided import Decided

CLOSEST = "close to toxic features"
AUTO = "auto"
"""Of `--drop`."""
Strategy = Callable[[Candidates, "Selection"], "Ranking | NDArray[np.int64]"]
"""A Ranking, or only its order: positions among the candidates, first to drop first, each once."""


@dataclass(frozen=True)
class Selection:
    """What was asked: exactly one of `drop_frac`, `drop_count`, `min_distance` and `drop`."""

    strategy: str = "closest"
    drop_frac: float | None = None
    """Share of the scored rows to drop, 0 to 1; rounded to whole rows, halves up."""
    drop_count: int | None = None
    min_distance: float | None = None
    """Drop every row whose distance is smaller."""
    seed: int = 0
    """For strategies that draw."""
    options: StrategyOptions = field(default_factory=StrategyOptions)
    """What the strategy is told."""
    drop: str | None = option(
        None, "auto: as many rows as are estimated to be bad, if it is certain that any are.",
        choices=(AUTO,),
    )  # fmt: skip
    drop_fdr: float | None = option(
        None, "With --drop auto, instead: the most rows of which at most this share is harmless.",
        least=0, most=1, fraction=True,
    )  # fmt: skip
    by: tuple[str, ...] | None = option(
        None, "Show what the cut does to each file, to each value of a column, or to each length: file, "
        "COLUMN or length; repeatable.", metavar="COLUMN|file|length",
    )  # fmt: skip
    keep_balance: str | None = option(
        None,
        "Cut each by itself: the same share of every file, value of a COLUMN, or length.",
        metavar="COLUMN|file|length",
    )

    def check(self) -> None:
        """Raises SaefilterError when the request makes no sense."""
        if self.drop_fdr is not None and self.drop is None:
            raise SaefilterError(
                "--drop-fdr has no effect without --drop auto",
                remedy=f"Use --drop auto --drop-fdr {self.drop_fdr}.",
            )
        asked = [self.drop_frac, self.drop_count, self.min_distance, self.drop]
        if sum(value is not None for value in asked) != 1:
            raise SaefilterError(
                "say how much to drop, in exactly one way",
                remedy="Use --drop-frac 0.1, --drop-count 200, --min-distance 0.4 or --drop auto.",
            )
        for name, one in described(type(self)).items():
            one.check(getattr(self, name))
        check_strategy(self.strategy, self.options)
        for name in ("drop_frac", "drop_count", "min_distance", "seed"):
            value = getattr(self, name)
            wanted = Real if name in ("drop_frac", "min_distance") else Integral
            if value is not None and (isinstance(value, bool) or not isinstance(value, wanted)):
                raise SaefilterError(f"--{name.replace('_', '-')} {value!r} is not a number")
        if self.drop_frac is not None and not 0 <= self.drop_frac <= 1:
            raise SaefilterError(
                f"--drop-frac {self.drop_frac} is not between 0 and 1",
                remedy="10 % is --drop-frac 10% or 0.1.",
            )
        if self.drop_count is not None and self.drop_count < 0:
            raise SaefilterError(f"--drop-count {self.drop_count} is negative")
        if self.seed < 0:
            raise SaefilterError(f"--seed {self.seed} is negative")
        if self.min_distance is not None and not math.isfinite(self.min_distance):
            raise SaefilterError(f"--min-distance {self.min_distance} is not a finite number")
        for name in ("min_distance", "drop"):
            if self.strategy != "closest" and getattr(self, name) is not None:
                raise SaefilterError(
                    f"--{name.replace('_', '-')} does not go with --strategy {self.strategy}",
                    remedy="Use it with --drop-frac or --drop-count.",
                )
        if self.keep_balance is not None and self.min_distance is not None:
            raise SaefilterError(
                "--keep-balance does not go with --min-distance, which takes rows one by one",
                remedy="Use --drop-frac, --drop-count or --drop auto.",
            )

    def draws(self) -> np.random.Generator:
        """Random numbers of this seed and strategy: two strategies with one seed draw independently,
        so that what they have in common is no artefact."""
        return np.random.default_rng([self.seed, *self.strategy.encode()])

    def to_fields(self) -> dict[str, Any]:
        """The request for artifacts: no folders, and no options that were not given."""
        fields = {name: value for name, value in vars(self).items() if name != "options"}
        return {**fields, "options": self.options.described()}


class Choice(NamedTuple):
    """Which rows go."""

    dropped: NDArray[np.bool_]
    """`[n_rows]`"""
    ranking: Ranking
    """What it rests on."""
    cut: Cut | None = None
    """How many rows go, where that was not asked for but found."""
    decided: Decided | None = None
    """Rows that a person decided on, which the strategy did not choose among."""


def choose(candidates: Candidates, selection: Selection, *, aside: int = 0) -> Choice:
    """Which of the rows to drop; ties go to the earlier row. `aside`: how many rows with a distance are not
    among the candidates, since somebody decided on them (decided.py).

    Raises SaefilterError when the request makes no sense for this many rows.
    """
    selection.check()
    n_rows = len(candidates)
    refuse_unvouched(candidates, selection, aside)
    cut = None
    if selection.drop == AUTO:
        from saefilter.select.auto import auto_cut  # needs scipy, which other cuts do without

        cut = auto_cut(candidates, selection.drop_fdr)
    count = cut.rows if cut is not None else count_of(selection, n_rows)
    ranking = rank(candidates, selection)
    if count is None:
        limit = float(selection.min_distance or 0.0)
        closer = (values < limit for values in candidates.distances())
        return Choice(np.concatenate([np.zeros(0, dtype=np.bool_), *closer]), ranking)
    if selection.keep_balance is not None:
        values = read_values(candidates, selection.keep_balance)
        return Choice(balanced(ranking.order, count, values), ranking, cut)
    if isinstance(ranking, ByDistance) and ranking.is_unsorted:  # and need not be sorted for it
        return Choice(smallest(candidates.distances, count, n_rows), ranking, cut)
    dropped = np.zeros(n_rows, dtype=bool)
    dropped[ranking.order[:count]] = True
    return Choice(dropped, ranking, cut)


BY_DISTANCE = ("closest", "matched-random")
"""Strategies whose choice depends on how near the rows are."""


def refuse_unvouched(candidates: Candidates, selection: Selection, aside: int = 0) -> None:
    """Raises SaefilterError where a choice would rest on distances that a cascade did not find out; those of
    `aside` rows that are not among the candidates may be any of the nearest."""
    made = None if candidates.scores is None else candidates.scores.provenance
    if made is None or not made.estimated or selection.strategy not in BY_DISTANCE:
        return
    assert made.cascade is not None
    sought, n_rows = min(int(made.cascade["nearest"]), made.scored), len(candidates)
    vouched = max(0, sought - aside)
    preset = "" if " " in made.preset else f" --preset {made.preset}"
    command = f"saefilter score {command_line(made.input_path)}{preset} --overwrite"
    if selection.drop == AUTO or selection.keep_balance is not None:
        asked = "--drop auto" if selection.drop == AUTO else "--keep-balance"
        raise SaefilterError(
            f"{asked} asks how near every row is, and {made.estimated:,} of these were only estimated",
            where=str(candidates.scores.path) if candidates.scores else None,
            remedy=f"Score again without --cascade: {command}.",
        )
    count = count_of(selection, n_rows)
    if count is None:
        limit, cut = float(selection.min_distance or 0.0), made.cascade["cut"]
        closer = sum(int(np.count_nonzero(part < limit)) for part in candidates.distances())
        count = closer if cut is not None and closer < vouched else n_rows
    if count > vouched:
        raise SaefilterError(
            f"these scores are of a cascade that sought the {sought:,} nearest of {n_rows + aside:,} rows"
            + (f", of which {aside:,} may have a decision" if aside else "")
            + "; beyond these it is not known which are near",
            where=str(candidates.scores.path) if candidates.scores else None,
            remedy=f"Drop no more than {vouched:,}. "
            f"Score again without --cascade, or with a larger --nearest: {command}.",
        )


def count_of(selection: Selection, n_rows: int) -> int | None:
    """How many of `n_rows` rows to drop; None where the distance decides.

    Raises SaefilterError when there are not so many.
    """
    if selection.drop_frac is not None:
        return math.floor(selection.drop_frac * n_rows + 0.5)
    if selection.drop_count is not None and selection.drop_count > n_rows:
        raise SaefilterError(
            f"--drop-count {selection.drop_count} is more than the {n_rows} scored rows"
        )
    return selection.drop_count


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """The strategy's ranking, whatever the number to drop.

    Raises SaefilterError when the strategy cannot do its work, or did not order each row once.
    """
    ranking = load_strategy(selection.strategy)(candidates, selection)
    if isinstance(ranking, ByDistance) and ranking.is_unsorted:
        return ranking
    if not isinstance(ranking, Ranking):
        ranking = Ranking(_positions(ranking), f"chosen by the strategy {selection.strategy}")
    n_rows = len(candidates)
    if not np.array_equal(np.sort(ranking.order), np.arange(n_rows)):
        raise plugin_error(
            STRATEGIES, selection.strategy, f"did not order the {n_rows:,} scored rows, each once"
        )
    of_rows = [ranking.score, ranking.reasons, *ranking.columns.values()]
    if any(one is not None and len(one) != n_rows for one in of_rows):
        raise plugin_error(
            STRATEGIES, selection.strategy,
            f"gave scores, reasons or columns that are not one for each of the {n_rows:,} rows",
        )  # fmt: skip
    return ranking


def _positions(order: Any) -> NDArray[np.int64]:
    """What another package's strategy gave, as whole numbers; none where it gave something else."""
    try:
        given = np.asarray(order)
    except ValueError:  # lists of different lengths
        return np.zeros(0, np.int64)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        return np.zeros(0, np.int64)
    return given.astype(np.int64)


def rank_closest(candidates: Candidates, selection: Selection) -> Ranking:
    """By the metric that made the scores, smallest distance first; equal ones in the order of the input."""
    return ByDistance.of(candidates, CLOSEST)


def rank_chosen_side(candidates: Candidates, selection: Selection) -> Ranking:
    """Of preference data, by the answer that is learnt alone, whatever it is preferred to: what a difference
    has to beat. KTO rows whose answer is unlearnt come last. Raises SaefilterError for other data."""
    scores = candidates.scores
    if scores is None or not scores.of_preferences:
        raise SaefilterError(
            "--strategy chosen-side is of preference data (pairs, KTO rows)",
            remedy="Use --strategy closest.",
        )
    column = scores.read(["chosen_proximity"])["chosen_proximity"].take(candidates.row_ids)
    proximity = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return Ranking.by_score(
        proximity, "proximity of the learnt answer", "its learnt answer is close"
    )


def rank_at_random(candidates: Candidates, selection: Selection) -> Ranking:
    """A permutation that depends on the seed and the number of rows alone."""
    order = selection.draws().permutation(len(candidates))
    return Ranking(order, "drawn at random")


def rank_by_label(candidates: Candidates, selection: Selection) -> Ranking:
    """The oracle, which no method beats: worst label first, drawn at random among equal ones; rows
    without a label last."""
    labels = read_labels(candidates, selection.options)
    drawn = selection.draws().permutation(len(candidates))
    order = drawn[np.argsort(-labels.value[drawn], kind="stable")]
    return Ranking(
        order, "by its label", labels.value, "label", labels.words(), {"labels": labels.about}
    )


def rank_matched_random(candidates: Candidates, selection: Selection) -> Ranking:
    """The first `k` rows hold as many bad, good and unlabelled ones as the `k` closest, for every `k`.

    Only the choice among equally labelled rows differs: what the geometry knows beyond telling bad
    from good.
    """
    labels = read_labels(candidates, selection.options)
    return Ranking(
        matched(rank_closest(candidates, selection).order, labels, selection.draws()),
        "drawn at random among the rows of its label",
        reasons=[f"drawn at random, {words}" for words in labels.words()],
        details={"labels": labels.about, "matched_to": "closest"},
    )


def matched(
    model: NDArray[np.int64], labels: RowLabels, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Another order with the same label at every place as the order `model` has, else drawn."""
    kind = np.where(labels.known, labels.bad.astype(np.int64), -1)
    order = np.empty_like(model)
    for label in np.unique(kind):
        order[kind[model] == label] = rng.permutation(np.flatnonzero(kind == label))
    return order
