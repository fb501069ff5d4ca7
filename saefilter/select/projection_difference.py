"""Projection difference of persona vectors (Chen et al. 2025, arXiv 2507.21509): how much farther a
row's answer lies along the toxic direction than the answer that the model itself would give.

`score = (mean residual of the row's answer - mean residual of the model's own) . v`, where `v` is the
unit vector from the mean residual of benign answers to that of toxic ones, all at one hook.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.rendered import Window
from saefilter.select.causal_reader import READ_TOKENS, CausalReader, default_hook
from saefilter.select.classifiers import read_contrast
from saefilter.select.per_row import scored_once
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection
from saefilter.toxic.load import load_toxic_set

DEFAULT_NEW_TOKENS = 64
GENERATED_TOKENS = 16384
"""Of a batch, prompts included: large, since a step for many answers costs little more than for one."""


class Response(NamedTuple):
    """A row's last trained answer, and what the model had read before it."""

    prompt: NDArray[np.int64]
    """Token ids, special tokens included."""
    window: Window
    """Prompt and answer; the answer's tokens are the scored ones."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest difference first, in the units of the residual stream."""
    options = selection.options
    toxic_set = load_toxic_set(options.toxic_set) if options.toxic_set else None
    hook = options.hook or (toxic_set.hook if toxic_set else default_hook(candidates, selection))
    reader = CausalReader.load(candidates, selection, hook)
    if toxic_set is not None:
        direction = np.asarray(toxic_set.direction, dtype=np.float32)
        learnt: dict[str, Any] = {"toxic_set": toxic_set.name}
    else:
        contrast = read_contrast(candidates, options)
        direction = persona_direction(reader, contrast.conversations, contrast.toxic)
        learnt = {"contrast": contrast.about}
    width = reader.model.model.config.get_text_config().hidden_size
    if direction.shape != (width,):
        raise SaefilterError(
            f"the toxic set's direction has {len(direction)} numbers, the model's residual {width}",
            remedy="Use a toxic set of this model, or contrast rows.",
        )
    difference = ProjectionDifference(
        reader,
        direction,
        options.max_new_tokens or DEFAULT_NEW_TOKENS,
        options.temperature or 0.0,
        selection.seed,
    )
    score = scored_once(
        candidates,
        "projection-difference",
        {**reader.depends_on, "hook": hook, **difference.depends_on()},
        difference.score,
    )
    return Ranking.by_score(
        score,
        "projection difference",
        "farther along the toxic direction than the model's own answer",
        details={
            **reader.about,
            "hook": hook,
            **learnt,
            "max_new_tokens": difference.new_tokens,
            "temperature": difference.temperature,
        },
    )


def persona_direction(
    reader: CausalReader, conversations: Sequence[Conversation], toxic: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Unit vector from benign to toxic answers, `[d_model]`: the difference of their mean residuals,
    each answer counting once. Raises SaefilterError when it has no length, or a side no answers."""
    responses = last_responses(reader, conversations)
    residual = np.zeros((len(responses), reader.model.model.config.get_text_config().hidden_size))
    usable = np.array([response is not None for response in responses])
    for side, name in ((toxic & usable, "toxic"), (~toxic & usable, "benign")):
        if not side.any():
            raise SaefilterError(f"no {name} contrast row has an answer that the model can read")
    windows = [response.window for response in responses if response is not None]
    residual[usable] = reader.model.mean_residual(windows, READ_TOKENS).numpy()
    difference = residual[toxic & usable].mean(axis=0) - residual[~toxic & usable].mean(axis=0)
    length = float(np.linalg.norm(difference))
    if not np.isfinite(length) or length == 0:
        raise SaefilterError("toxic and benign contrast rows do not differ at this hook")
    unit: NDArray[np.float32] = (difference / length).astype(np.float32)
    return unit


class ProjectionDifference:
    """The score of rows, some at a time; the model answers every prompt once."""

    def __init__(
        self,
        reader: CausalReader,
        direction: NDArray[np.float32],
        new_tokens: int,
        temperature: float,
        seed: int,
    ):
        self.reader = reader
        self.direction = torch.from_numpy(direction)
        self.new_tokens = min(new_tokens, reader.context // 2)
        self.temperature = temperature
        self.seed = seed
        self._own: dict[bytes, float] = {}

    def depends_on(self) -> dict[str, Any]:
        """What the scores depend on besides the model."""
        return {
            "direction": hashlib.sha256(self.direction.numpy().tobytes()).hexdigest(),
            "new_tokens": self.new_tokens,
            "temperature": self.temperature,
            "seed": self.seed if self.temperature else None,
        }

    def score(self, conversations: Sequence[Conversation]) -> NDArray[np.float64]:
        """Projection differences, `[n]`; NaN for a row without an answer."""
        responses = last_responses(self.reader, conversations)
        usable = [response for response in responses if response is not None]
        own = self._own_projections([response.prompt for response in usable])
        values = self._projections([response.window for response in usable]) - own
        score = np.full(len(responses), np.nan)
        answered = [number for number, response in enumerate(responses) if response is not None]
        score[answered] = values
        return score

    def _projections(self, windows: Sequence[Window]) -> NDArray[np.float64]:
        if not windows:
            return np.empty(0)
        means = self.reader.model.mean_residual(windows, READ_TOKENS)
        return (means @ self.direction).double().numpy()

    def _own_projections(self, prompts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Projections of the model's own answers, `[n_prompts]`."""
        keys = [hashlib.blake2b(prompt.tobytes(), digest_size=16).digest() for prompt in prompts]
        new = {
            key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._own
        }
        shown = [self._shortened(prompt) for prompt in new.values()]
        answers = self._answers(shown, _digest(list(new)))
        windows = [
            _answer_window(number, prompt, answer)
            for number, (prompt, answer) in enumerate(zip(shown, answers, strict=True))
        ]
        self._own.update(zip(new, self._projections(windows).tolist(), strict=True))
        return np.array([self._own[key] for key in keys])

    def _shortened(self, prompt: NDArray[np.int64]) -> list[int]:
        """The end of a prompt that leaves room for an answer; never nothing."""
        room = self.reader.context - self.new_tokens
        return prompt[-room:].tolist() or [self.reader.start]

    def _answers(self, prompts: list[list[int]], number: int) -> list[list[int]]:
        """`number`: of these prompts, so that other prompts are answered by other draws."""
        model = self.reader.model
        cuda = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed((self.seed + number) % (1 << 63))
            return model.answers(
                prompts, self.new_tokens, GENERATED_TOKENS, temperature=self.temperature
            )


def _digest(keys: Sequence[bytes]) -> int:
    return int.from_bytes(hashlib.blake2b(b"".join(keys), digest_size=7).digest(), "big")


def _answer_window(number: int, prompt: list[int], answer: list[int]) -> Window:
    """Prompt and answer as a window; an empty answer is read at the prompt's last token."""
    ids = np.array([*prompt, *answer], dtype=np.int64)
    scored = np.arange(len(ids)) >= min(len(prompt), len(ids) - 1)
    return Window(number, ids, scored, np.zeros((len(ids), 2), dtype=np.int32))


def last_responses(
    reader: CausalReader, conversations: Sequence[Conversation]
) -> list[Response | None]:
    """The last trained answer of each conversation, as far as the model's context reaches; None
    where there is none."""
    _, windows = reader.renderer.render(conversations)
    responses: list[Response | None] = [None] * len(conversations)
    for window in windows:
        if responses[window.row] is not None:  # a later window of a row longer than the context
            continue
        scored = np.flatnonzero(window.scored)
        end = int(scored[-1]) + 1
        gaps = np.flatnonzero(np.diff(scored) > 1)
        start = int(scored[gaps[-1] + 1] if len(gaps) else scored[0])
        own = np.zeros(end, dtype=bool)
        own[start:] = True
        responses[window.row] = Response(
            window.ids[:start], Window(window.row, window.ids[:end], own, window.spans[:end])
        )
    return responses
