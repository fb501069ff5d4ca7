"""A loaded scorer: the encoder of a model, the metric of a toxic set, and the settings that hold.

What is done with it, and where results go, is in score.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from saefilter.artifacts.provenance import Identity
from saefilter.asked import DEFAULT_PRESET
from saefilter.encode.checks import sentence
from saefilter.geometry.reasons import ThemeReader
from saefilter.rows.inputs import open_input
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.sides import ANSWERS
from saefilter.scoring.preference import preference_table
from saefilter.scoring.prepare import Prepared, Preparer, default_processes
from saefilter.scoring.reference import Reference, read_reference
from saefilter.scoring.table import scores_table, with_read_as
from saefilter.scoring.yardstick import Yardstick
from saefilter.settings import ScoreSettings
from saefilter.toxic.learnt import learnt_from
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import DOES_NOT_TELL, tells

if TYPE_CHECKING:
    from saefilter.encode.encoded import Encoded
    from saefilter.encode.encoder import Encoder
    from saefilter.geometry.scorer import Scorer
    from saefilter.scoring.cascade.readers import CheapReader
    from saefilter.toxic.toxicset import Likeness, PushReference, ToxicSet


@dataclass(frozen=True)
class Measured:
    """What measuring some rows gave."""

    table: pa.Table
    """Rows of the scores file, in the rows' order."""
    push_sums: tuple[list[float], list[float]] | None
    """See `Receipt`."""
    likeness: dict[str, list[float]] | None = None
    """See `Receipt`."""


@dataclass(frozen=True, kw_only=True)
class ScorerIdentity(Identity):
    """What a loaded scorer is made of, as small values, with what joining its shards needs."""

    expected_l0: float | None
    """By the SAE's configuration; None when it does not say."""
    notes: tuple[str, ...]
    """Caveats of preset and toxic set, as sentences."""
    push: PushReference | None
    """What spillover is measured against."""
    push_labels: tuple[str, ...]
    """Of its features."""
    likeness: Likeness | None
    """What the reference rows are like, where they were read as these are."""
    difference: str
    """What differences of answers are of, for people."""
    reasons: tuple[str, ...]
    """Why device and precision were chosen, one line each."""
    exits: bool = False
    """Whether a cascade's rows may end at an early layer, while others go on in the same pass."""


class RowScorer:
    """A loaded encoder and scorer with the settings that apply to every row."""

    def __init__(
        self,
        encoder: Encoder,
        scorer: Scorer,
        settings: ScoreSettings,
        note: str | None = None,
        reference: Reference | None = None,
    ):
        self.encoder = encoder
        self.reference = reference
        """The user's own reference rows; None where the toxic set's serve."""
        self.note = note
        """What a reader of the results must know of the toxic set."""
        self.scorer = scorer
        self.settings = settings
        options = RenderOptions.of(settings)
        self.renderer = encoder.renderer(options, settings.rendering)
        self.yardstick = Yardstick(scorer, settings, self.renderer.name, reference)
        """What percentiles, likeness and spillover are measured by."""
        processes = settings.prepare_processes
        if processes is None:
            processes = default_processes(encoder.device.type)
        spec = encoder.renderer_spec(options, settings.rendering)
        self.preparer = Preparer(self.renderer, spec, processes)
        self.cheap = None if settings.cheap_reader is None else _cheap_reader(settings, self)
        """What ranks the rows of a cascade; None where all are read."""
        self.themes = ThemeReader.of(scorer.toxic_set)
        weights = [scorer.token_weights[:, None]]
        if self.themes is not None:
            weights.append(self.themes.token_weights())
        self.encoding: dict[str, Any] = {
            "pool": settings.pool,
            "batch_tokens": settings.batch_tokens,
            "token_weights": np.ascontiguousarray(np.concatenate(weights, axis=1)),
        }
        """How rows are encoded to be measured here."""

    @classmethod
    def load(cls, settings: ScoreSettings, say: Callable[[str], None] | None = None) -> RowScorer:
        """Load preset and toxic set. Raises SaefilterError when they do not belong together.

        A preset without a toxic set gets one from the bundled contrast data, made once and kept;
        `say` is told so before the work begins.
        """
        from saefilter.encode.encoder import Encoder
        from saefilter.geometry.metrics import known_metric
        from saefilter.geometry.scorer import Scorer

        if not (settings.preset or settings.model or settings.sae):
            settings = replace(settings, preset=DEFAULT_PRESET)
        if settings.reference is not None:
            open_input(settings.reference)  # and so does a reference that is not there
        if settings.toxic_set is not None:
            load_toxic_set(settings.toxic_set)  # what is wrong with it shows before the model loads
        if settings.metric is not None:
            known_metric(settings.metric)
        encoder = Encoder.of(settings)
        toxic_set, note = toxic_set_of(encoder, settings.toxic_set, say)
        toxic_set.check_belongs(
            fingerprint=encoder.sae.fingerprint,
            d_model=encoder.sae.d_model,
            d_sae=encoder.sae.d_sae,
            model=encoder.preset.model,
            sae_name=encoder.preset.sae,
            unit_decoder=encoder.sae.has_unit_decoder,
        )
        scorer = Scorer(
            toxic_set,
            encoder.sae.directions(),
            metric=settings.metric,
            neighbours=settings.neighbours,
            device=str(encoder.device),
        )
        reference = None
        if settings.reference is not None:
            if say is not None:
                say(f"Reference: scoring the rows of {settings.reference}")
            reference = read_reference(settings, encoder, scorer)
        return cls(encoder, scorer, settings, note, reference)

    def identity(self) -> ScorerIdentity:
        """What was loaded."""
        encoder, toxic_set = self.encoder, self.scorer.toxic_set
        return ScorerIdentity(
            preset=encoder.preset.name,
            model=encoder.preset.model,
            revision=encoder.revision,
            sae=encoder.preset.sae,
            hook=encoder.hook,
            sae_fingerprint=encoder.sae.fingerprint,
            toxic_set=toxic_set.name,
            toxic_set_sha256=toxic_set.sha256(),
            learnt_from=learnt_from(toxic_set) or None,
            metric=self.scorer.metric.name,
            pool=self.settings.pool,
            train_on=self.settings.train_on,
            trainer=self.settings.trainer,
            read=self.settings.read,
            max_tokens=self.settings.max_tokens,
            truncation_side=self.settings.truncation_side,
            rendering=self.renderer.name,
            dtype=encoder.dtype,
            quantize=self.settings.quantize,
            device=str(encoder.device),
            settings=self.settings.shaping(),
            reference_rows=self.yardstick.rows,
            reference=self.yardstick.fields(),
            expected_l0=encoder.sae.expected_l0,
            notes=self._notes(),
            push=self.yardstick.push,
            push_labels=tuple(map(self.scorer.label, self.yardstick.push.features))
            if self.yardstick.push
            else (),
            likeness=self.yardstick.likeness,
            difference=self.scorer.metric.difference_words(),
            reasons=(
                *encoder.placement.reasons,
                *(f"Warning: {text}" for text in encoder.warnings),
            ),
            exits=self.cheap is not None and self.cheap.exits,
        )

    def _notes(self) -> tuple[str, ...]:
        """`ScorerIdentity.notes`."""
        missing = self.yardstick.missing
        said = (
            self.encoder.preset.note,
            self.note,
            missing and sentence(f"no percentiles: {missing}"),
            self._tells_nothing(),
            *read_in_part(self.settings),
            *(sentence(warning) for warning in self.encoder.warnings),
        )
        return tuple(filter(None, said))

    def _tells_nothing(self) -> str | None:
        """What to say of a set that does not tell bad rows from good ones."""
        calibration = self.scorer.toxic_set.calibration  # of held-out rows, whatever the reference
        auroc = calibration.auroc if calibration else None
        if auroc is None or tells(auroc):
            return None
        return (
            f"{DOES_NOT_TELL}: AUROC {auroc[0]:.2f} ({auroc[1]:.2f} to {auroc[2]:.2f}, 95 %) on rows it "
            "has not seen. These scores mean little, and check gives no verdict by them; curate a set "
            "from rows like yours."
        )

    def close(self) -> None:
        """End the processes and threads that it started."""
        if self.cheap is not None:
            self.cheap.close()
        self.preparer.close()
        self.encoder.close()

    def read(
        self, prepared: Prepared, advance: Callable[[int], None] | None = None
    ) -> tuple[Encoded, list[int | None]]:
        """The rows, encoded as `encoding` says, equal texts once (once.py); and the position of the row
        that each was read as, None where it was read itself. Raises SaefilterError."""
        from saefilter.scoring.once import read_once  # imports torch, which merging does without

        return read_once(self.encoder, prepared, self.settings, self.encoding, advance)

    def measure(
        self, prepared: Prepared, encoded: Encoded, read_as: list[int | None] | None = None
    ) -> Measured:
        """Proximity, percentiles and evidence of rows that were encoded as `encoding` says."""
        measured = self._measure_rows(prepared, encoded)
        if read_as is None:
            return measured
        return replace(measured, table=with_read_as(measured.table, prepared.row_id, read_as))

    def _measure_rows(self, prepared: Prepared, encoded: Encoded) -> Measured:
        if prepared.kind != ANSWERS:
            return self._measure_preference(prepared, encoded)
        result = self.scorer.score(encoded.features, encoded.residual)
        table = scores_table(
            prepared,
            result.proximity,
            self.yardstick.percentile(result.proximity),
            result.top_features(),
            encoded.top_tokens,
            result.own_share,
            self.scorer,
            None if self.themes is None else (self.themes, self.themes.read(encoded.features)),
        )
        scored = encoded.n_tokens > 0
        return Measured(
            table,
            self.yardstick.push_sums(encoded.features[scored]),
            self.yardstick.likeness_sums(
                encoded.features[scored], encoded.n_tokens[scored], result.proximity[scored]
            ),
        )

    def _measure_preference(self, prepared: Prepared, encoded: Encoded) -> Measured:
        """Pairs and labelled rows. What they push features to is not held against harmless rows; how
        like those they are is asked of the chosen answers, or the only ones."""
        table = preference_table(
            prepared, encoded, self.scorer, self.themes, of_answer=self.yardstick.percentile,
            of_push=self.yardstick.percentile_of_push,
        )  # fmt: skip
        n = len(prepared)
        scored = encoded.n_tokens[:n] > 0
        features, tokens = encoded.features[:n][scored], encoded.n_tokens[:n][scored]
        proximity = self.scorer.score(features, encoded.residual[:n][scored]).proximity
        return Measured(table, None, self.yardstick.likeness_sums(features, tokens, proximity))


def _cheap_reader(settings: ScoreSettings, scorer: RowScorer) -> CheapReader:
    from saefilter.scoring.cascade.readers import load_reader  # most runs have none

    return load_reader(settings, scorer)


def read_in_part(settings: ScoreSettings) -> list[str]:
    """What a reader of scores must know where not all of the rows was read."""
    said = []
    if settings.max_scored_tokens is not None:
        said.append(
            f"Of each text at most {settings.max_scored_tokens:,} scored tokens were read by the SAE, "
            "an even sample: the scores of longer ones are estimates."
        )
    if settings.near_duplicates:
        said.append(
            "Rows that differ from an earlier one of their shard in case, punctuation, spaces or "
            "numbers alone were not read; they have its scores, and read_as says whose."
        )
    return said


def toxic_set_of(
    encoder: Encoder, name_or_file: str | None, say: Callable[[str], None] | None = None
) -> tuple[ToxicSet, str | None]:
    """The set that is asked for, the preset's own, or one made of the bundled contrast; and what a
    reader of results must know of it. `say` is told before one is made."""
    if name_or_file := name_or_file or encoder.preset.toxic_set:
        return load_toxic_set(name_or_file), None
    # here, because it needs all that makes a set, which most runs do without
    from saefilter.curate.curate import automatic_path, automatic_set

    path = automatic_path(encoder)
    if say is not None and path.exists():
        say(f"Toxic set: {path}, made of the bundled contrast data")
    elif say is not None:
        say(
            "This preset has no toxic set yet; making one of the bundled contrast data (1,498 texts)"
        )
    toxic_set = automatic_set(encoder)
    auroc = toxic_set.calibration.auroc if toxic_set.calibration else None
    how_well = "on topics left out it could not be tried"
    if auroc is not None:
        how_well = (
            f"on topics left out it tells bad from good answers with AUROC {auroc[0]:.2f} "
            f"({auroc[1]:.2f} to {auroc[2]:.2f}, 95 %)"
        )
    return toxic_set, (
        f"The toxic set was made of saefilter's bundled pairs alone; {how_well}. One from your own "
        "good and bad rows is better (saefilter features curate)."
    )
