"""What rendering is told and what it gives: options, texts with a mask, windows of tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.described import described
from saefilter.errors import SaefilterError
from saefilter.settings import ScoreSettings


class Segment(NamedTuple):
    """A stretch of rendered text."""

    text: str
    trained: bool
    template: bool = False
    """Whether the template wrote it: only there are special tokens more than their letters."""
    eos: bool = False
    """Whether it is the EOS alone, as trainers put it after a plain text."""
    control: bool = False
    """Whether control tokens that it spells out are such: a trainer tokenises a plain text as it is."""


class Window(NamedTuple):
    """Tokens of one row, short enough for the model's context."""

    row: int
    """Which of the rendered rows it belongs to."""
    ids: NDArray[np.int64]
    """Token ids with the model's special tokens, `[n_tokens]`."""
    scored: NDArray[np.bool_]
    """Where the model is read, `[n_tokens]`: at the tokens that are trained on, or before each."""
    spans: NDArray[np.int32]
    """Character span in the row's text of each token, or of the one after it where the model is read
    before trained tokens: what is read and what is trained on then belong together, `[n_tokens, 2]`."""


@dataclass(frozen=True)
class RenderedRow:
    """What became of one row."""

    text: str
    n_tokens: int
    """Tokens of the whole row, before any cut, without those the tokenizer puts around it."""
    n_trained: int
    """Of these, tokens that training would learn from, before any cut."""
    n_scored: int
    """Trained tokens within `max_tokens`."""
    problem: str | None = None
    """Why it cannot be scored; then it has no windows."""

    @property
    def truncated(self) -> bool:
        """Whether trained tokens were cut."""
        return self.n_scored < self.n_trained


@dataclass(frozen=True)
class RenderOptions:
    """What a user chooses about rendering."""

    max_tokens: int = 1024
    """Rows are cut here, as the trainer does."""
    train_on: str = "assistant"
    """`assistant`, `all`, `last-turn` or `completion`; of no account with a trainer."""
    truncation_side: str = "right"
    """`right` keeps the beginning of a long row, `left` its end."""
    trainer: str | None = None
    """Whose tokens are scored instead; one of TRAINERS."""
    read: str = "at"
    """`at` each trained token, or `before` it, where it is predicted and the loss acts."""
    columns: str | None = None
    """Which of a row's columns hold what, where they do not have the names of a known format."""

    @property
    def by(self) -> str:
        """Whose choice of turns it is: the trainer's, else that of --train-on."""
        return self.trainer or self.train_on

    def __post_init__(self) -> None:
        settings = described(ScoreSettings)
        for one in fields(self):
            settings[one.name].check(getattr(self, one.name))

    @classmethod
    def of(cls, source: Any, **otherwise: Any) -> RenderOptions:
        """Those of settings, or of the provenance of scores; but for what is said `otherwise`. Raises
        SaefilterError for settings that wait for the data to know its columns."""
        for name in ("dataset_info", "axolotl_config"):
            if getattr(source, name, None) is not None and "columns" not in otherwise:
                raise SaefilterError(
                    f"{name} says what the columns are only where the data is known",
                    remedy="Give `columns`, or ask settings.of_data(path).",
                )
        return cls(**{one.name: getattr(source, one.name) for one in fields(cls)} | otherwise)
