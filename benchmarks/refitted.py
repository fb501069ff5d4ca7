"""What the shipped set of `minilm` says of the rows that it was made of, had it not been made of them.

Its whole curation, as in examples/make_minilm_toxic_set.py, is repeated in folds of groups, as its
calibration is: each row is scored by the set that was made without its fold, and its percentile is taken
among the benign rows of the other folds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.make_minilm_toxic_set import SETS, is_toxic, rows_of, with_groups
from saefilter.curate.assemble import fitted_set
from saefilter.curate.calibrate import held_out_proximities
from saefilter.curate.contrast import Contrast
from saefilter.curate.curate import ContrastEncoder
from saefilter.curate.options import CurationOptions
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.geometry.metrics import DEFAULT_METRIC
from saefilter.rows.formats import recognise
from saefilter.rows.groups import groups_by
from saefilter.toxic.load import load_toxic_set

SET = "minilm"


def options() -> CurationOptions:
    """Those that the shipped set says it was made with."""
    method = load_toxic_set(SET).method
    return CurationOptions(
        **{name: method[name] for name in ("screen_p", "fdr", "seed", "max_density", "top")}
    )


def encoded(folder: Path, encoder: Encoder) -> tuple[Contrast, list[tuple[str, str]]]:
    """The set's contrast data, and of each row its source and its text as JSON."""
    chosen = []
    for number, name in enumerate(SETS[SET]):
        rows = with_groups(name, rows_of(name, folder))
        for side in (True, False):
            chosen += [(number, name, side, row) for row in rows if is_toxic(name, row) is side]
    conversations = [recognise(row) for *_, row in chosen]
    groups = groups_by([(name, row["group"]) for _, name, _, row in chosen], "group", conversations)
    collected = ContrastEncoder(encoder, None, groups)
    for number in range(len(SETS[SET])):
        for side in (True, False):
            some = [c for c, entry in zip(conversations, chosen, strict=True)
                    if (entry[0], entry[2]) == (number, side)]  # fmt: skip
            collected.add(some, side, number)
    keys = [
        (name, key(row))
        for (_, name, _, row), usable in zip(chosen, collected.usable, strict=True)
        if usable
    ]
    return collected.result(), keys


def key(row: dict[str, Any]) -> str:
    """What tells a row of a source from its others."""
    return json.dumps({name: value for name, value in row.items() if name != "group"})


def held_out_percentiles(
    name: str, rows: list[dict[str, Any]], folder: Path
) -> NDArray[np.float64]:
    """Of rows of the source `name`, `[n_rows]`; NaN for those that the set was not made of."""
    encoder = Encoder(load_preset(SET))
    contrast, keys = encoded(folder, encoder)

    def fit(some: Contrast) -> Any:
        return fitted_set(encoder, some, name=SET, options=options(), sources=[])

    fold, by_metric = held_out_proximities(
        fit, contrast, encoder.sae.directions(), seed=options().seed
    )
    proximity = by_metric[f"{DEFAULT_METRIC}/mean"]
    percentile = np.full(len(fold), np.nan)
    for number in np.unique(fold):
        others = np.sort(proximity[(fold != number) & ~contrast.toxic])
        here = fold == number
        percentile[here] = 100 * np.searchsorted(others, proximity[here]) / len(others)
    known = {
        text: value
        for (source, text), value in zip(keys, percentile, strict=True)
        if source == name
    }
    return np.array([known.get(key(row), np.nan) for row in rows])
