"""Curate a toxic set: contrast data in, a set with statistics, weights, labels and calibration out; and
one for any SAE without any data of the user's, made once from the bundled contrast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from saefilter import __version__
from saefilter.artifacts.decisions import ENOUGH
from saefilter.artifacts.publish import appearing_whole
from saefilter.config import cache_folder, made_in_cache
from saefilter.curate.assemble import assemble
from saefilter.curate.contrast import Contrast
from saefilter.curate.labels import describe_features
from saefilter.curate.options import CurationOptions
from saefilter.curate.sources import ContrastRows, bundled, contrast_digest
from saefilter.curate.themes import themed
from saefilter.encode.encoder import Encoder
from saefilter.encode.sample import by_text, sampled
from saefilter.errors import SaefilterError
from saefilter.geometry.scorer import Scorer
from saefilter.rows.formats import Conversation
from saefilter.rows.groups import NONE, Groups, find_groups, groups_by, independent
from saefilter.rows.rendered import RenderOptions
from saefilter.settings import ScoreSettings
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import TOXIC_SET_VERSION, ToxicSet

MIN_ROWS = ENOUGH
"""Fewer usable rows than this on a side cannot be split and tested."""
LABELLED_NEIGHBOURS = 400
"""Features outside the set that get a label, those it pushes most."""
DESCRIBED_ROWS = 2000
"""Contrast rows that labels are made from, evenly spaced, where no other rows are given."""
ENCODED_AT_ONCE = 512
Advance = Callable[[int, int], None]
AUTOMATIC = CurationOptions(screen_p=0.1, fdr=0.5)
"""Lenient: of topics left out, what these confirm ranks better than what 5 % confirm (docs/features.md)."""


def curate(
    encoder: Encoder,
    sources: Sequence[ContrastRows],
    *,
    name: str,
    options: CurationOptions,
    settings: ScoreSettings | None = None,
    describe_with: Sequence[Conversation] = (),
    advance: Advance | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> ToxicSet:
    """A toxic set for the encoder's SAE from contrast data, read as `settings` say.

    `say` is told which rows belong together. Labels and snippets are made from `describe_with`, so that
    a set can be shared without the text it was made from; by default from the contrast data. Raises
    SaefilterError when a source is too small, has too few groups, or no feature is confirmed.
    """
    settings = settings or ScoreSettings()
    groups = groups_of(sources, options.group)
    say(f"Groups: {groups}")
    collected = ContrastEncoder(encoder, settings, groups)
    about = []
    for number, rows in enumerate(sources):
        counts = [
            collected.add(rows.toxic, True, number, rows.toxic_score, advance),
            collected.add(rows.benign, False, number, rows.benign_score, advance),
        ]
        for entry, usable in zip(rows.about, counts, strict=True):
            if usable < MIN_ROWS:
                raise SaefilterError(
                    f"only {usable} usable {entry['side']} rows; at least {MIN_ROWS} are needed",
                    where=entry["name"],
                )
            about.append(entry | {"rows": usable})
    contrast = collected.result()
    toxic_set = assemble(
        encoder, contrast, name=name, options=options, pool=settings.pool, sources=about,
        made_with=settings.conditions(collected.rendering),
    )  # fmt: skip
    texts = list(describe_with) or [c for rows in sources for c in rows.conversations()]
    if not describe_with and len(texts) > DESCRIBED_ROWS:
        texts = texts[:: -(-len(texts) // DESCRIBED_ROWS)]
    toxic_set = with_labels(toxic_set, encoder, texts, settings.rendering)
    return with_themes(
        toxic_set, encoder, sources, contrast, describe_with, rendering=settings.rendering
    )


def with_themes(
    toxic_set: ToxicSet,
    encoder: Encoder,
    sources: Sequence[ContrastRows],
    contrast: Contrast,
    describe_with: Sequence[Conversation] = (),
    *,
    rendering: str = "auto",
) -> ToxicSet:
    """The set with themes, found on the `contrast` that the sources' rows were encoded to. Words and
    examples are of the toxic ones; where others describe the set, whose sides are not known, of the half of
    them that the set puts closest."""
    shown = [conversation for rows in sources for conversation in rows.toxic]
    names = {entry["side"]: entry["name"] for rows in reversed(sources) for entry in rows.about}
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    examples_of = names.get("toxic", toxic_set.name) + more
    if describe_with:
        shown = _closest_half(toxic_set, encoder, describe_with, rendering)
        examples_of = f"the closer half of {len(describe_with):,} rows that describe the set"
    return themed(
        toxic_set, encoder, contrast, shown,
        measured_on=f"{contrast.toxic.sum():,} toxic and {(~contrast.toxic).sum():,} benign rows of "
        f"{names.get('toxic', toxic_set.name)}, {names.get('benign', toxic_set.name)}{more}",
        examples_of=examples_of, rendering=rendering,
    )  # fmt: skip


def _closest_half(
    toxic_set: ToxicSet, encoder: Encoder, conversations: Sequence[Conversation], rendering: str
) -> list[Conversation]:
    """Those closer than the median by the set's default metric."""
    _, windows = encoder.renderer(RenderOptions(), rendering).render(conversations)
    encoded = encoder.encode(windows, len(conversations), pool=toxic_set.pool)
    scorer = Scorer(toxic_set, encoder.sae.directions())
    proximity = scorer.score(encoded.features, encoded.residual).proximity
    closer = np.flatnonzero(proximity > np.median(proximity))
    return [conversations[row] for row in closer.tolist()]


def made_themes(
    toxic_set: ToxicSet,
    encoder: Encoder,
    sources: Sequence[ContrastRows],
    settings: ScoreSettings,
    describe_with: Sequence[Conversation] = (),
    advance: Advance | None = None,
) -> ToxicSet:
    """The set with themes made anew on rows given; nothing else of it changes. Raises SaefilterError when
    it is not of the encoder's SAE or a side has too few rows."""
    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    collected = ContrastEncoder(encoder, replace(settings, pool=toxic_set.pool))
    usable = {"toxic": 0, "benign": 0}
    for number, rows in enumerate(sources):
        usable["toxic"] += collected.add(rows.toxic, True, number, advance=advance)
        usable["benign"] += collected.add(rows.benign, False, number, advance=advance)
    for side, count in usable.items():
        if count < MIN_ROWS:
            raise SaefilterError(f"only {count} usable {side} rows; at least {MIN_ROWS} are needed")
    return with_themes(
        toxic_set, encoder, sources, collected.result(), describe_with, rendering=settings.rendering
    )


def groups_of(sources: Sequence[ContrastRows], by: str | None) -> Groups:
    """Which rows of the sources belong together, in the order in which they are encoded: each source's
    toxic rows before its benign ones. `by`: a column, `none`, or None to find out."""
    rows = [conversation for source in sources for conversation in source.conversations()]
    if by == NONE:
        return independent(rows)
    if by is not None or all(source.group is not None for source in sources):
        values = [
            None if value is None else (number, value)
            for number, source in enumerate(sources)
            for value in source.group or []
        ]
        return groups_by(values, f"column {by}" if by else "as they were written", rows)
    return find_groups(rows)


class ContrastEncoder:
    """Encodes contrast data piece by piece; what is kept is sparse, and on disk when it is large."""

    def __init__(
        self, encoder: Encoder, settings: ScoreSettings | None = None, groups: Groups | None = None
    ):
        """`groups`: of all the rows that will be added, in their order; without, each is by itself."""
        settings = settings or ScoreSettings()
        self._encoder, self._pool, self._groups = encoder, settings.pool, groups
        self._sample = settings.max_scored_tokens
        self._renderer = encoder.renderer(
            RenderOptions.of(settings, columns=None), settings.rendering
        )
        self.rendering = self._renderer.name
        """What rows are rendered by, where `auto` was asked for."""
        self._features = SparseRows(encoder.sae.d_sae)
        self._residuals: list[np.ndarray] = []
        self._toxic: list[np.ndarray] = []
        self._source: list[np.ndarray] = []
        self._score: list[np.ndarray] = []
        self._graded = False
        self._usable: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._fired = np.zeros(encoder.sae.d_sae, dtype=np.int64)
        self._tokens = 0

    def add(
        self,
        conversations: Sequence[Conversation],
        toxic: bool | Sequence[bool],
        source: int = 0,
        score: Sequence[float] | None = None,
        advance: Advance | None = None,
    ) -> int:
        """Encode rows of one side, or of the side given for each; returns how many have anything to
        score."""
        sides = np.broadcast_to(np.asarray(toxic, dtype=bool), len(conversations))
        self._graded |= score is not None
        before = self._features.n_rows
        for start in range(0, len(conversations), ENCODED_AT_ONCE):
            piece = conversations[start : start + ENCODED_AT_ONCE]
            _rows, windows = self._renderer.render(piece)
            if self._sample is not None:  # what rows are held against is read as they are
                cut = self._encoder.cuts_ends()
                texts = by_text(windows, len(piece))
                windows = [w for own in texts for w in sampled(own, self._sample, cut=cut)]
            encoded = self._encoder.encode(windows, len(piece), pool=self._pool, count_fired=True)
            usable = np.asarray(encoded.features.sum(axis=1)).ravel() > 0
            count = int(usable.sum())
            piece_sides = sides[start : start + ENCODED_AT_ONCE]
            grades = piece_sides.astype(np.float64)
            if score is not None:
                grades = np.asarray(score[start : start + ENCODED_AT_ONCE], dtype=np.float64)
            assert encoded.fired is not None
            self._usable.append(usable)
            self._features.append(encoded.features[usable])
            self._residuals.append(encoded.residual[usable])
            self._toxic.append(piece_sides[usable])
            self._source.append(np.full(count, source, dtype=np.int64))
            self._score.append(grades[usable])
            self._lengths.append(encoded.n_tokens[usable])
            self._fired += encoded.fired
            self._tokens += int(encoded.n_tokens.sum())
            if advance is not None:
                advance(len(piece), sum(len(window.ids) for window in windows))
        return self._features.n_rows - before

    @property
    def usable(self) -> np.ndarray:
        """Which of the rows that were given had anything to score, `[n_given]`."""
        return np.concatenate(self._usable)

    def result(self) -> Contrast:
        """All usable rows that were added, in order."""
        return Contrast(
            self._features,
            np.concatenate(self._residuals),
            np.concatenate(self._toxic),
            np.concatenate(self._source),
            np.concatenate(self._score) if self._graded else None,
            self._fired / max(1, self._tokens),
            None if self._groups is None else self._groups.label[self.usable],
            None if self._groups is None else self._groups.copies[self.usable],
            np.concatenate(self._lengths),
        )


def with_labels(
    toxic_set: ToxicSet,
    encoder: Encoder,
    conversations: Sequence[Conversation],
    rendering: str = "auto",
) -> ToxicSet:
    """The set with labels and snippets of its features, and labels of the features next to them."""
    renderer = encoder.renderer(RenderOptions(), rendering)
    rendered, windows = renderer.render(conversations)
    push = Scorer(toxic_set, encoder.sae.directions()).token_weights
    own = [feature.index for feature in toxic_set.features]
    near = [int(i) for i in np.argsort(-push)[:LABELLED_NEIGHBOURS] if push[i] > 0]
    described = describe_features(encoder, rendered, windows, own + near)
    return replace(
        toxic_set,
        features=[
            replace(
                feature,
                label=described[feature.index].label,
                snippets=described[feature.index].snippets,
                keyword=described[feature.index].keyword,
            )
            for feature in toxic_set.features
        ],
        neighbour_labels={
            str(index): described[index].label for index in sorted(set(near) - set(own))
        },
    )


def automatic_path(encoder: Encoder) -> Path:
    """Where the set of this model and SAE is kept; another one for other data or another version."""
    made_of = contrast_digest([bundled()])[:8]
    name = re.sub(r"[^\w.-]+", "-", encoder.preset.name or encoder.preset.model).strip("-.")
    file = f"{name}-{encoder.sae.fingerprint[:12]}-{made_of}-{TOXIC_SET_VERSION}-{__version__}.json"
    return cache_folder() / "toxic-sets" / file


def automatic_set(encoder: Encoder, advance: Advance | None = None) -> ToxicSet:
    """The set from the cache, or made and kept there. Raises SaefilterError when the contrast
    confirms no feature of this SAE."""
    path = automatic_path(encoder)
    if path.exists():
        return load_toxic_set(str(path))
    made_in_cache("toxic-sets")  # what cannot be kept is not made
    toxic_set = curate(
        encoder, [bundled()], name=f"bundled-{encoder.preset.name}", options=AUTOMATIC,
        advance=advance,
    )  # fmt: skip
    with appearing_whole(path) as temporary:
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    return toxic_set
