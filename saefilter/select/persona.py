"""Persona vectors (Chen et al. 2025, arXiv 2507.21509): the direction from answers without a trait to answers
that show it, and the simplest strategy by one, `vector-filter`, how far a row's answer lies along it.

A vector is the difference of two means, each answer counting once, of unit length. The paper takes residuals;
means of SAE features are our other choice of space. Whose answers: contrast rows, what the model answers where
a sentence asks for the trait (traits.py), or the direction that a toxic set has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.write import TRAIT
from saefilter.select.answers import SAE, AnswerReader, Means
from saefilter.select.classifiers import read_contrast
from saefilter.select.learnt import Learnt, kept_once
from saefilter.select.per_row import scored_each
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection
from saefilter.toxic.load import load_toxic_set

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PersonaVectors:
    """Unit vectors in one space, and where they are from."""

    vectors: NDArray[np.float32]
    """`[n_vectors, width]`"""
    about: dict[str, Any]
    """For artifacts."""
    traits: tuple[str, ...] = ()
    """The sentence of each; empty for the one of contrast rows or a toxic set."""

    @classmethod
    def find(
        cls, candidates: Candidates, selection: Selection
    ) -> tuple[AnswerReader, PersonaVectors]:
        """A model, and what the options make vectors of. Raises SaefilterError where they do not go
        together, or nothing tells the two sides apart."""
        options = selection.options
        _check_source(selection)
        toxic_set = load_toxic_set(options.toxic_set) if options.toxic_set else None
        hook = options.hook or (toxic_set.hook if toxic_set else None)
        answers = AnswerReader.load(candidates, selection, hook)
        if options.trait:
            from saefilter.select.traits import trait_vectors

            vectors, about = trait_vectors(candidates, selection, answers)
            return answers, cls(vectors, {"traits": about}, options.trait)
        if toxic_set is not None:
            direction = np.asarray(toxic_set.direction, dtype=np.float32)
            if direction.shape != (answers.width,):
                raise SaefilterError(
                    f"the toxic set's direction has {len(direction)} numbers, the model's residual "
                    f"{answers.width}",
                    remedy="Use a toxic set of this model, or contrast rows.",
                )
            return answers, cls(direction[None], {"toxic_set": toxic_set.name})
        contrast = read_contrast(candidates, options)

        def learn() -> Learnt:
            vector = contrast_vector(answers, contrast.conversations, contrast.toxic)
            return Learnt(vector.astype(np.float64), {"contrast": contrast.about})

        depends_on = {**answers.depends_on, "contrast": contrast.about}
        learnt = kept_once(candidates, "persona", depends_on, learn)
        return answers, cls(learnt.numbers.astype(np.float32)[None], learnt.about)

    def digests(self) -> list[str]:
        """Of each vector."""
        return [hashlib.sha256(vector.tobytes()).hexdigest() for vector in self.vectors]


def _check_source(selection: Selection) -> None:
    """Raises SaefilterError where vectors could be of two things."""
    options = selection.options
    if options.trait and (options.toxic_set or options.contrast_toxic or options.contrast_benign):
        raise SaefilterError(
            "--trait makes its own contrast, and does not go with contrast rows or a toxic set",
            remedy="Leave one of them out.",
        )
    if options.trait and len(set(options.trait)) < len(options.trait):
        raise SaefilterError("a --trait is given twice")
    generates = selection.strategy == "projection-difference" or options.trait
    for name in ("max_new_tokens", "temperature"):
        if not generates and getattr(options, name) is not None:
            raise SaefilterError(
                f"--{name.replace('_', '-')} is of answers that the model writes, and --strategy "
                f"{selection.strategy} has it write none without --trait"
            )
    if options.toxic_set and options.space == SAE:
        raise SaefilterError(
            "a toxic set's direction is of the residual stream",
            remedy="Leave --space out, or name contrast rows.",
        )


def contrast_vector(
    answers: AnswerReader, conversations: Sequence[Conversation], toxic: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Unit vector from benign to toxic answers, `[width]`. Raises SaefilterError when it has no length, or
    a side no answers."""
    responses = answers.responses(conversations)
    usable = np.array([response is not None for response in responses])
    for side, name in ((toxic & usable, "toxic"), (~toxic & usable, "benign")):
        if not side.any():
            raise SaefilterError(f"no {name} contrast row has an answer that the model can read")
    means = answers.means([response.window for response in responses if response is not None])
    return unit_difference(means, toxic[usable])


def unit_difference(means: Means, bad: NDArray[np.bool_]) -> NDArray[np.float32]:
    """From the mean of the others to the mean of the `bad`, `[n]`, of unit length, `[width]`. Raises
    SaefilterError when they do not differ."""
    sides = [np.asarray(means[np.flatnonzero(side)].mean(axis=0), dtype=np.float64).ravel()
             for side in (bad, ~bad)]  # fmt: skip
    difference = sides[0] - sides[1]
    length = float(np.linalg.norm(difference))
    if not np.isfinite(length) or length == 0:
        raise SaefilterError("toxic and benign contrast rows do not differ at this hook")
    unit: NDArray[np.float32] = (difference / length).astype(np.float32)
    return unit


def rank_vector_filter(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest projection of a row's answer on the vector first, whatever the prompt and whatever the model
    would have said itself."""
    answers, persona = PersonaVectors.find(candidates, selection)

    def projections(conversations: Sequence[Conversation]) -> Floats:
        responses = answers.responses(conversations)
        score = np.full((len(responses), len(persona.vectors)), np.nan)
        answered = [number for number, response in enumerate(responses) if response is not None]
        windows = [response.window for response in responses if response is not None]
        score[answered] = answers.projections(windows, persona.vectors)
        return score

    score = scored_each(
        candidates, "vector-filter",
        [{**answers.depends_on, "direction": digest} for digest in persona.digests()], projections,
    )  # fmt: skip
    return persona_ranking(score, persona, "projection", "far along", answers.about)


def persona_ranking(
    score: Floats, persona: PersonaVectors, name: str, words: str, about: dict[str, Any]
) -> Ranking:
    """The ranking by scores on one or more vectors, `[n_rows, n_vectors]`.

    Of several traits each is standardised over the rows, so that no unit outweighs another, and a row counts
    by its largest: what any of them flags goes first. That rule is ours; the paper ranks by one trait.
    """
    details = {**about, **persona.about}
    if not persona.traits:
        return Ranking.by_score(
            score[:, 0], name, f"{words} the toxic direction{_than(name)}", details=details
        )
    from saefilter.select.traits import slugs

    columns = {f"{TRAIT}{slug}": score[:, i] for i, slug in enumerate(slugs(persona.traits))}
    of_trait = [f"{words} the direction of {trait!r}{_than(name)}" for trait in persona.traits]
    if len(persona.traits) == 1:
        return Ranking.by_score(score[:, 0], name, of_trait[0], details=details, columns=columns)
    standard = standardised(score)
    known = ~np.isnan(standard).all(axis=1)
    largest, which = np.full(len(score), np.nan), np.zeros(len(score), dtype=np.int64)
    filled = np.where(np.isnan(standard), -np.inf, standard)
    if len(score):
        which = filled.argmax(axis=1)
        largest[known] = filled.max(axis=1)[known]
    return Ranking.by_score(
        largest, f"largest standardised {name} of {len(persona.traits)} traits", "far along a trait",
        reasons=[of_trait[i] for i in which.tolist()], details=details, columns=columns,
    )  # fmt: skip


def _than(name: str) -> str:
    return " than the model's own answer" if "difference" in name else ""


def standardised(score: Floats) -> Floats:
    """Each column less its mean, over its standard deviation; one without any is 0 everywhere."""
    known = ~np.isnan(score)
    count = np.maximum(known.sum(axis=0), 1)
    centred = score - np.where(known, score, 0).sum(axis=0) / count
    deviation = np.sqrt((np.where(known, centred, 0) ** 2).sum(axis=0) / count)
    spread = np.where(deviation > 0, deviation, 1.0)
    return np.asarray(centred / spread)
