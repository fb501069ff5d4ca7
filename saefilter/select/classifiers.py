"""Contrast rows that a strategy learns from, and logistic regression learnt from them: on TF-IDF, for what
words alone can tell, and on sentence embeddings, for what meaning alone can tell.

The embedding is all-MiniLM-L6-v2's, as the preset `minilm` brings it along; no SAE is involved. What
was learnt by it and what it says of each row are kept, so that another `--drop-frac` costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.sources import bundled, from_files
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.inputs import open_input
from saefilter.rows.trained import trained_messages
from saefilter.select.per_row import RowCache, scored_once, weights_in
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection

if TYPE_CHECKING:
    from saefilter.encode.sentences import SentenceEncoder

MIN_ROWS = 5
"""Of either side; fewer teach nothing that could be checked."""
FOLDS = 5
PIECE_ROWS = 2048
"""Rows whose texts are in memory at once."""
TEXT_PENALTY = 10.0
"""Inverse strength of the L2 penalty; the one of docs/quality.md."""
EMBEDDING_PENALTY = 10.0
"""Inverse strength of the L2 penalty, for unit vectors."""


@dataclass(frozen=True)
class ContrastPair:
    """Rows of both sides, toxic ones first."""

    conversations: list[Conversation]
    toxic: NDArray[np.bool_]
    """`[n_contrast]`"""
    about: list[dict[str, Any]]
    """Name, side, rows and hash of each input, for artifacts."""


def read_contrast(candidates: Candidates, options: StrategyOptions) -> ContrastPair:
    """The contrast rows that the options name, else the bundled pairs.

    Raises SaefilterError when the sides do not go together, or one has hardly a usable row.
    """
    toxic, benign = options.contrast_toxic or (), options.contrast_benign or ()
    if len(toxic) != len(benign):
        raise SaefilterError(
            f"{len(toxic)} --contrast-toxic and {len(benign)} --contrast-benign inputs",
            remedy="Name one benign input for each toxic one.",
        )
    if toxic:
        pairs = zip(toxic, benign, strict=True)
        sources = [from_files(open_input(one), open_input(other)) for one, other in pairs]
    else:
        candidates.watch.say(
            "Learning from saefilter's bundled pairs; rows like yours teach more "
            "(--contrast-toxic, --contrast-benign)"
        )
        sources = [bundled()]
    bad = [row for source in sources for row in source.toxic]
    good = [row for source in sources for row in source.benign]
    for side, rows in (("toxic", bad), ("benign", good)):
        if len(rows) < MIN_ROWS:
            raise SaefilterError(
                f"only {len(rows)} usable {side} contrast rows; at least {MIN_ROWS} are needed",
                remedy=f"Look at the inputs of --contrast-{side}.",
            )
    return ContrastPair(
        [*bad, *good],
        np.arange(len(bad) + len(good)) < len(bad),
        [entry for source in sources for entry in source.about],
    )


def train_on_of(candidates: Candidates) -> str:
    """Which turns were scored, by a trainer or as --train-on says, so that a strategy reads the same."""
    made = candidates.scores.provenance if candidates.scores else None
    return made.scored_by if made else "assistant"


def trained_text(conversation: Conversation, train_on: str) -> str:
    """What training would learn from, as one text; all of it, whatever the token limit."""
    chosen = trained_messages(conversation, train_on)
    texts = (
        message.spoken for message, trained in zip(conversation, chosen, strict=True) if trained
    )
    return "\n\n".join(filter(None, texts))


def text_pieces(candidates: Candidates) -> Iterator[list[str]]:
    """The scored rows' trained texts, a piece of the rows at a time; progress is told."""
    train_on = train_on_of(candidates)
    candidates.watch.plan(len(candidates), 0)
    texts = (trained_text(conversation, train_on) for conversation in candidates.conversations())
    while piece := list(islice(texts, PIECE_ROWS)):
        yield piece
        candidates.watch.advance(len(piece), 0)


def ranking_of(
    probability: NDArray[np.float64], contrast: ContrastPair, auroc: float, what: str
) -> Ranking:
    """The ranking by a classifier's probability of toxic, `[n_rows]`."""
    return Ranking.by_score(
        probability,
        "probability of toxic",
        f"by the probability of toxic that {what} gives it",
        details={"contrast": contrast.about, "contrast_auroc": round(auroc, 4)},
    )


def cross_validated_auroc(model: Any, features: Any, toxic: NDArray[np.bool_]) -> float:
    """How well the model tells contrast rows apart that it was not fitted on.

    Folds are runs of neighbouring rows, since neighbours are often variants of one text.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    probability = cross_val_predict(
        model, features, toxic, cv=StratifiedKFold(FOLDS), method="predict_proba"
    )
    return float(roc_auc_score(toxic, probability[:, 1]))


def rank_by_words(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest probability of toxic first, by the words and word pairs of the trained text."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    contrast = read_contrast(candidates, selection.options)
    train_on = train_on_of(candidates)
    texts = [trained_text(conversation, train_on) for conversation in contrast.conversations]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=TEXT_PENALTY, max_iter=2000, class_weight="balanced"),
    )
    auroc = cross_validated_auroc(model, texts, contrast.toxic)
    model.fit(texts, contrast.toxic)
    with candidates.cost.of_rows():
        by_piece = [model.predict_proba(piece)[:, 1] for piece in text_pieces(candidates)]
    candidates.cost.rows_read += len(candidates)
    probability = np.concatenate(by_piece) if by_piece else np.empty(0)
    return ranking_of(probability, contrast, auroc, "a text classifier")


def rank_by_embedding(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest probability of toxic first, by the embedding of the trained text."""
    contrast = read_contrast(candidates, selection.options)
    embedder = _Embedder(train_on_of(candidates), selection.options.device or "auto")
    depends_on = {
        "contrast": contrast.about,
        "train_on": embedder.train_on,
        "weights": embedder.weights,
    }
    learnt = RowCache("embedding-classifier-learnt", depends_on, candidates.watch.say)
    if (classifier := _Classifier.known(learnt)) is None:
        classifier = _Classifier.fitted(contrast, embedder)
        learnt.put(classifier.numbers())
    else:
        candidates.cost.kept_learnt += 1

    def probability_of(conversations: Sequence[Conversation]) -> NDArray[np.float64]:
        return classifier.probability(embedder.embed(conversations))

    probability = scored_once(candidates, "embedding-classifier", depends_on, probability_of)
    return ranking_of(
        probability, contrast, classifier.auroc, "a classifier of sentence embeddings"
    )


class _Embedder:
    """The sentence encoder, loaded when it is needed."""

    def __init__(self, train_on: str, device: str):
        self.train_on = train_on
        self.device = device

    @property
    def weights(self) -> list[list[Any]]:
        """Which weights it reads with."""
        from saefilter.encode.presets import load_preset
        from saefilter.encode.sentences import PRESET

        return weights_in(load_preset(PRESET).model_path())

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        from saefilter.encode.sentences import SentenceEncoder

        return SentenceEncoder.load(self.device)

    def embed(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Unit vectors of the trained texts, `[n, d_model]`."""
        texts = [trained_text(conversation, self.train_on) for conversation in conversations]
        return self._encoder.embed(texts)


class _Classifier(NamedTuple):
    auroc: float
    """Cross-validated, on the contrast rows."""
    intercept: float
    weights: NDArray[np.float64]
    """`[d_model]`"""

    @classmethod
    def fitted(cls, contrast: ContrastPair, embedder: _Embedder) -> _Classifier:
        from sklearn.linear_model import LogisticRegression

        vectors = embedder.embed(contrast.conversations)
        model = LogisticRegression(C=EMBEDDING_PENALTY, max_iter=2000, class_weight="balanced")
        auroc = cross_validated_auroc(model, vectors, contrast.toxic)
        model.fit(vectors, contrast.toxic)
        return cls(auroc, float(model.intercept_[0]), model.coef_[0].astype(np.float64))

    @classmethod
    def known(cls, kept: RowCache) -> _Classifier | None:
        """The one that was kept by `numbers`; None without all of it."""
        size = int(kept.get("weights") or 0)
        names = ["auroc", "intercept", *(f"weight-{i}" for i in range(size))]
        numbers = [value for name in names if (value := kept.get(name)) is not None]
        if not size or len(numbers) < len(names):
            return None
        return cls(numbers[0], numbers[1], np.array(numbers[2:]))

    def numbers(self) -> dict[str, float]:
        """All of it as named numbers."""
        named = {f"weight-{i}": float(value) for i, value in enumerate(self.weights)}
        return named | {"auroc": self.auroc, "intercept": self.intercept, "weights": len(named)}

    def probability(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of toxic, `[n]`."""
        from scipy.special import expit

        probability: NDArray[np.float64] = expit(vectors @ self.weights + self.intercept)
        return probability
