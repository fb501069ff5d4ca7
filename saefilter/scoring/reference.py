"""The user's own reference rows: good ones of the same kind as the data, scored by the same settings, that
percentiles and flagged shares are then measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.geometry.difference import values
from saefilter.geometry.metrics import DEFAULT_METRIC, Sample
from saefilter.rows.formats import Conversation, RowProblem, understand
from saefilter.rows.groups import effective_groups, find_groups
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.rows.sides import PAIRS, kind_of, sides_of
from saefilter.toxic.toxicset import Calibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saefilter.curate.contrast import Contrast
    from saefilter.encode.encoder import Encoder
    from saefilter.geometry.scorer import Scorer
    from saefilter.settings import ScoreSettings

LEAST_ROWS = 50
"""Fewer usable rows say little of how many harmless ones are as close."""
KEPT_ROWS = 5_000
"""Reference rows whose proximity is kept with the scores, evenly spread."""


PUSH = "push"
"""After the key of a calibration's quantiles: those of what pairs push towards."""


@dataclass(frozen=True)
class Reference:
    """Reference rows, scored."""

    calibration: Calibration
    about: dict[str, Any]
    """What the provenance says of them: `name`, `sha256`, `proximity` and `group` of each row."""


def read_reference(settings: ScoreSettings, encoder: Encoder, scorer: Scorer) -> Reference:
    """Score the rows that `settings.reference` names as the data will be. Raises SaefilterError where
    too few can be scored."""
    # what makes a toxic set's calibration makes this one; most runs do without
    from saefilter.curate.calibrate import calibration_of, likeness_to, own_share, push_reference
    from saefilter.curate.curate import ContrastEncoder
    from saefilter.curate.sources import columns_held

    assert settings.reference is not None
    source = open_input(settings.reference)
    sides = _sides_of(source, columns_held(source, Columns.parse(settings.columns)))
    of_pairs, rejected = any(len(one) > 1 for one in sides), None
    if of_pairs:
        rejected = ContrastEncoder(encoder, settings)
        rejected.add([one[1] for one in sides], False)
        sides = [one for one, usable in zip(sides, rejected.usable, strict=True) if usable]
    conversations = [one[0] for one in sides]
    collected = ContrastEncoder(encoder, settings, find_groups(conversations))
    usable = collected.add(conversations, False) if conversations else 0
    if usable < LEAST_ROWS:
        raise SaefilterError(
            f"only {usable} rows can be scored; a reference needs at least {LEAST_ROWS}",
            where=f"--reference {settings.reference}",
            remedy="Name more good rows, or leave --reference out.",
        )
    contrast = collected.result()
    proximity = np.concatenate([
        scorer.score(slab, contrast.residual[span]).proximity
        for span, slab in contrast.features.slabs()
    ])  # fmt: skip
    by_metric = {f"{scorer.metric.name}/{settings.pool}": proximity}
    if rejected is not None:
        push = _values(scorer, contrast) - _values(scorer, rejected.result())[collected.usable]
        by_metric[f"{scorer.metric.name}/{settings.pool}/{PUSH}"] = push
    directions = encoder.sae.directions()
    own = scorer.toxic_set.calibration
    calibration = calibration_of(
        by_metric,
        usable,
        push_reference(scorer.toxic_set, directions, contrast),
        effective_groups(contrast.groups),
        settings.conditions(collected.rendering),
        own_share(scorer.toxic_set, directions, contrast),
        likeness_to(contrast),
    )
    kept = slice(None, None, -(-usable // KEPT_ROWS))
    about = {
        "name": settings.reference,
        "sha256": source.sha256(),
        "proximity": [float(f"{value:.7g}") for value in proximity[kept]],
        "group": np.unique(contrast.groups[kept], return_inverse=True)[1].ravel().tolist(),
    }
    default = scorer.metric.name == DEFAULT_METRIC
    return Reference(replace(calibration, auroc=own.auroc if own and default else None), about)


def _sides_of(source: Source, columns: Columns) -> list[tuple[Conversation, ...]]:
    """The answers of a reference: those that are learnt; of pairs, which are kept alone where there are any, both.
    Rows that cannot be read, and answers labelled as undesirable, are left out."""
    rows = []
    for row in source.rows():
        try:
            understood = understand(row.data or {}, columns)
        except RowProblem:
            continue
        if understood.desirable is not False:
            rows.append((kind_of(understood) == PAIRS, sides_of(understood)))
    of_pairs = any(pair for pair, _ in rows)
    return [sides for pair, sides in rows if pair or not of_pairs]


def _values(scorer: Scorer, contrast: Contrast) -> NDArray[np.float64]:
    """The metric on its linear scale, of all rows."""
    return np.concatenate([
        values(scorer, Sample(slab, contrast.residual[span]))
        for span, slab in contrast.features.slabs()
    ])  # fmt: skip
