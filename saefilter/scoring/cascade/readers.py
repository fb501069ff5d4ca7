"""Cheap readers: what ranks all rows before the model reads some of them.

    minilm       any other preset: mean residual at its hook, and the proximity by its own toxic set
    layer:5      the model itself after an earlier layer: mean residual there
    tokens:64    the model itself at the first 64 scored tokens of a row: mean residual and proximity

What they see of a row is a vector; search.py learns what the model would say of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from saefilter.encode.encoded import Encoded
from saefilter.encode.presets import preset_of
from saefilter.errors import SaefilterError
from saefilter.geometry.scorer import Scorer
from saefilter.rows.rendered import RenderOptions, Window
from saefilter.rows.row import Row
from saefilter.scoring.prepare import Prepared, Preparer
from saefilter.settings import ScoreSettings
from saefilter.stats.tally import Tally
from saefilter.toxic.load import load_toxic_set

if TYPE_CHECKING:
    from saefilter.encode.early import EarlyModel
    from saefilter.encode.encoder import Encoder
    from saefilter.scoring.scorer import RowScorer

Tokens = Callable[[int], None]
WIDEST = 640
"""Numbers of a residual that are kept of each row."""
OWN = re.compile(r"(layer|tokens):([0-9]{1,6})")


class View(NamedTuple):
    """What a cheap reader saw of some rows."""

    vectors: NDArray[np.float16]
    """`[n_rows, d]`; of rows that are not known they mean nothing."""
    known: NDArray[np.bool_]
    """Where there was something to see, `[n_rows]`."""
    tally: Tally


class CheapReader(Protocol):
    """Sees a little of every row."""

    @property
    def exits(self) -> bool:
        """Whether the model may go on from there with some rows: see exits.py."""

    def read(self, rows: Sequence[Row], prepared: Prepared, advance: Tokens) -> View:
        """`prepared`: the rows as the model would read them. Several threads may call it."""

    def close(self) -> None:
        """End what it started."""


def load_reader(settings: ScoreSettings, scorer: RowScorer) -> CheapReader:
    """The reader that the settings name, beside the loaded model of a cascade. Raises SaefilterError."""
    name = settings.cheap_reader
    assert name is not None
    if match := OWN.fullmatch(name):
        kind, number = match[1], int(match[2])
        return EarlyReader.of(scorer, number) if kind == "layer" else FirstTokens(scorer, number)
    if ":" in name:
        raise SaefilterError(
            f"--cascade {name!r} is no cheap reader",
            remedy="Use a preset's name, layer:5 or tokens:64.",
        )
    return OtherModel.of(settings, name, scorer)


@cache
def _projection(width: int) -> NDArray[np.float32]:
    """`[width, WIDEST]`, the same everywhere: it keeps lengths and angles nearly (Johnson and Lindenstrauss 1984)."""
    normal: NDArray[np.float32] = (
        np.random.default_rng(width).normal(size=(width, WIDEST)).astype(np.float32)
    )
    return normal / np.float32(np.sqrt(WIDEST))


def _vectors(residual: NDArray[np.floating], *more: NDArray[np.floating]) -> NDArray[np.float16]:
    """Side by side, at half precision, a wide residual projected at random: it is kept for every row, and a guess
    needs no more."""
    if residual.shape[1] > WIDEST:
        residual = residual @ _projection(residual.shape[1])
    parts = (residual, *more)
    limit = float(np.finfo(np.float16).max)
    columns: NDArray[np.floating] = np.concatenate(
        [part.reshape(len(part), -1) for part in parts], axis=1
    )
    half: NDArray[np.float16] = np.clip(columns, -limit, limit).astype(np.float16)
    return half


def _view(encoded: Encoded, n_rows: int, scorer: Scorer | None) -> View:
    """Of the rows' mean residuals and proximities, where a toxic set says these, and of their lengths."""
    tokens = encoded.n_tokens[:n_rows]
    parts = [encoded.residual[:n_rows], np.log1p(tokens)]
    if scorer is not None:
        parts.append(scorer.score(encoded.features, encoded.residual).proximity[:n_rows])
    return View(_vectors(*parts), tokens > 0, encoded.tally)


@dataclass(frozen=True)
class OtherModel:
    """Another preset."""

    encoder: Encoder
    preparer: Preparer
    scorer: Scorer | None
    """Of its own toxic set; None where none is shipped."""
    exits: bool = False

    @classmethod
    def of(cls, settings: ScoreSettings, name: str, model: RowScorer) -> OtherModel:
        """On the same device, by what the settings say of rows. Raises SaefilterError for a preset that is not
        there, or is the model itself."""
        from saefilter.encode.encoder import Encoder

        own = replace(
            settings, preset=name, model=None, sae=None, revision=None, layer=None,
            dtype="auto", quantize="none", device_map=None, rendering="auto",
        )  # fmt: skip
        preset = preset_of(own)
        if (preset.model, preset.sae) == (model.encoder.preset.model, model.encoder.preset.sae):
            raise SaefilterError(
                f"--cascade {name} is the model itself, which is no cheaper",
                remedy="Name a smaller preset, layer:N or tokens:N.",
            )
        encoder = Encoder.of(own)
        options = RenderOptions.of(settings)
        scorer = None
        if preset.toxic_set is not None:
            toxic_set = load_toxic_set(preset.toxic_set)
            scorer = Scorer(toxic_set, encoder.sae.directions(), device=str(encoder.device))
        return cls(
            encoder, Preparer(encoder.renderer(options), encoder.renderer_spec(options)), scorer
        )

    def read(self, rows: Sequence[Row], prepared: Prepared, advance: Tokens) -> View:
        own = self.preparer.prepare(rows, prepared.kind)
        encoded = self.encoder.encode(own.windows, own.texts, advance=advance)
        return _view(encoded, len(rows), self.scorer)

    def close(self) -> None:
        self.preparer.close()
        self.encoder.close()


class EarlyReader:
    """The model after an earlier layer."""

    def __init__(self, scorer: RowScorer, model: EarlyModel):
        self._scorer, self.model = scorer, model
        self.exits = model.exits

    @classmethod
    def of(cls, scorer: RowScorer, layer: int) -> EarlyReader:
        """Raises SaefilterError for a model that has no such layer before its hook."""
        from saefilter.encode.early import EarlyModel
        from saefilter.encode.model import TruncatedModel

        model = scorer.encoder.model
        if not isinstance(model, TruncatedModel):
            raise SaefilterError(
                f"{scorer.encoder.preset.name} cannot be read after an earlier layer",
                remedy="Use --cascade tokens:64, or a causal model.",
            )
        return cls(scorer, EarlyModel(model, layer))

    def read(self, rows: Sequence[Row], prepared: Prepared, advance: Tokens) -> View:
        from saefilter.encode.early import mean_residuals

        residual, tokens, tally = mean_residuals(
            self._scorer.encoder, self.model, prepared.windows, prepared.texts,
            self._scorer.settings.batch_tokens, advance,
        )  # fmt: skip
        n = len(rows)
        return View(early_vectors(residual[:n], tokens[:n]), tokens[:n] > 0, tally)

    def close(self) -> None:
        """The model is not its own."""


def early_vectors(residual: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float16]:
    """What is kept of rows that were read after an earlier layer: mean residuals and lengths, `[n, d + 1]`."""
    return _vectors(residual, np.log1p(tokens))


class FirstTokens:
    """The model at the first scored tokens of a row."""

    exits = False

    def __init__(self, scorer: RowScorer, tokens: int):
        """Raises SaefilterError for none."""
        if not tokens:
            raise SaefilterError("--cascade tokens:0 reads nothing", remedy="Use tokens:64.")
        self._scorer, self._tokens = scorer, tokens

    def read(self, rows: Sequence[Row], prepared: Prepared, advance: Tokens) -> View:
        encoder = self._scorer.encoder
        encoded = encoder.encode(
            shortened(prepared.windows, self._tokens), prepared.texts,
            pool=self._scorer.settings.pool, batch_tokens=self._scorer.settings.batch_tokens,
            advance=advance,
        )  # fmt: skip
        return _view(encoded, len(rows), self._scorer.scorer)

    def close(self) -> None:
        """The model is not its own."""


def shortened(windows: Sequence[Window], tokens: int) -> list[Window]:
    """The windows up to each row's scored token number `tokens`; those after it are left out."""
    left: dict[int, int] = {}
    kept = []
    for window in windows:
        room = left.get(window.row, tokens)
        if room <= 0:
            continue
        scored = np.flatnonzero(window.scored)
        left[window.row] = room - len(scored)
        if len(scored) > room:
            end = int(scored[room - 1]) + 1
            window = Window(window.row, window.ids[:end], window.scored[:end], window.spans[:end])
        kept.append(window)
    return kept
