"""Projection difference of persona vectors (Chen et al. 2025, arXiv 2507.21509): how much farther a
row's answer lies along the toxic direction than the answer that the model itself would give.

`score = (mean of the row's answer - mean of the model's own) . v`, where `v` is a persona vector
(persona.py), all at one hook.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import Conversation
from saefilter.select.answers import (
    AnswerReader,
    Response,
    answer_window,
    last_responses,
    own_answers,
    shortened,
)
from saefilter.select.per_row import scored_each
from saefilter.select.persona import PersonaVectors, persona_ranking
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

__all__ = ["ProjectionDifference", "Response", "last_responses", "rank"]
DEFAULT_NEW_TOKENS = 64


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest difference first, in the units of the space."""
    options = selection.options
    answers, persona = PersonaVectors.find(candidates, selection)
    difference = ProjectionDifference(
        answers,
        persona.vectors,
        options.max_new_tokens or DEFAULT_NEW_TOKENS,
        options.temperature or 0.0,
        selection.seed,
    )
    score = scored_each(
        candidates,
        "projection-difference",
        [
            {**answers.depends_on, "direction": digest, **difference.depends_on()}
            for digest in persona.digests()
        ],
        difference.score,
    )
    about = {
        **answers.about,
        "max_new_tokens": difference.new_tokens,
        "temperature": difference.temperature,
    }
    return persona_ranking(score, persona, "projection difference", "farther along", about)


class ProjectionDifference:
    """The scores of rows, some at a time; the model answers every prompt once."""

    def __init__(
        self,
        answers: AnswerReader,
        vectors: NDArray[np.float32],
        new_tokens: int,
        temperature: float,
        seed: int,
    ):
        """`vectors`: `[n_vectors, width]`."""
        self.answers = answers
        self.vectors = vectors
        self.new_tokens = min(new_tokens, answers.reader.context // 2)
        self.temperature = temperature
        self.seed = seed
        self._own: dict[bytes, list[float]] = {}

    def depends_on(self) -> dict[str, Any]:
        """What the scores depend on besides the model and the vectors."""
        return {
            "new_tokens": self.new_tokens,
            "temperature": self.temperature,
            "seed": self.seed if self.temperature else None,
        }

    def score(self, conversations: Sequence[Conversation]) -> NDArray[np.float64]:
        """Projection differences, `[n, n_vectors]`; NaN for a row without an answer."""
        responses = self.answers.responses(conversations)
        usable = [response for response in responses if response is not None]
        own = self._own_projections([response.prompt for response in usable])
        score = np.full((len(responses), len(self.vectors)), np.nan)
        answered = [number for number, response in enumerate(responses) if response is not None]
        windows = [response.window for response in usable]
        score[answered] = self.answers.projections(windows, self.vectors) - own
        return score

    def _own_projections(self, prompts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Projections of the model's own answers, `[n_prompts, n_vectors]`."""
        keys = [hashlib.blake2b(prompt.tobytes(), digest_size=16).digest() for prompt in prompts]
        new = {
            key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._own
        }
        reader = self.answers.reader
        shown = [shortened(reader, prompt, self.new_tokens) for prompt in new.values()]
        # of these prompts, so that other prompts are answered by other draws
        draw = self.seed + _digest(list(new))
        written = own_answers(reader, shown, self.new_tokens, self.temperature, draw)
        windows = [
            answer_window(number, prompt, answer)
            for number, (prompt, answer) in enumerate(zip(shown, written, strict=True))
        ]
        projected = self.answers.projections(windows, self.vectors).tolist()
        self._own.update(zip(new, projected, strict=True))
        own = [self._own[key] for key in keys]
        return np.array(own, dtype=np.float64).reshape(len(keys), len(self.vectors))


def _digest(keys: Sequence[bytes]) -> int:
    return int.from_bytes(hashlib.blake2b(b"".join(keys), digest_size=7).digest(), "big")
