"""A row's last trained answer as a causal model reads it, and what it comes to on average in one of two spaces:
the residual stream at the hook, or the features of the SAE that the scores were made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from saefilter.encode.sae import Sae, load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.rendered import Window
from saefilter.select.causal_reader import READ_TOKENS, CausalReader, default_hook
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Selection

RESIDUAL, SAE = "residual", "sae"
CHUNK_TOKENS = 256
"""Of which the SAE's features are dense at once."""
Means: TypeAlias = "NDArray[np.float32] | sparse.csr_matrix"
"""`[n_answers, width]`"""


class Response(NamedTuple):
    """A row's last trained answer, and what the model had read before it."""

    prompt: NDArray[np.int64]
    """Token ids, special tokens included."""
    window: Window
    """Prompt and answer; the answer's tokens are the scored ones."""


@dataclass(frozen=True)
class AnswerReader:
    """A causal model, and the space in which answers are averaged."""

    reader: CausalReader
    hook: str
    width: int
    """`d_model`, or `d_sae`."""
    sae: Sae | None = None
    """None for the residual stream."""

    @classmethod
    def load(cls, candidates: Candidates, selection: Selection, hook: str | None) -> AnswerReader:
        """At `hook`, or where the scores were read. Raises SaefilterError where there is no such SAE."""
        if selection.options.space == SAE:
            return cls._with_sae(candidates, selection, hook)
        hook = hook or default_hook(candidates, selection)
        reader = CausalReader.load(candidates, selection, hook)
        return cls(reader, hook, reader.model.model.config.get_text_config().hidden_size)

    @classmethod
    def _with_sae(
        cls, candidates: Candidates, selection: Selection, hook: str | None
    ) -> AnswerReader:
        made = candidates.scores.provenance if candidates.scores else None
        if made is None:
            raise SaefilterError("--space sae needs the scores, whose SAE it reads with")
        if hook not in (None, made.hook):
            raise SaefilterError(
                f"--space sae reads where the scores' SAE belongs, at {made.hook}, and not at {hook}",
                remedy="Leave --hook out.",
            )
        reader = CausalReader.load(candidates, selection, made.hook)
        sae = load_sae(find_sae(made.sae)).to(reader.model.device, torch.float32)
        width = reader.model.model.config.get_text_config().hidden_size
        if width != sae.d_model:
            raise SaefilterError(
                f"the scores' SAE reads {sae.d_model} numbers, the model's residual has {width}",
                remedy="Leave --model out, or use --space residual.",
            )
        return cls(reader, made.hook, sae.d_sae, sae)

    @property
    def space(self) -> str:
        """`residual` or `sae`."""
        return RESIDUAL if self.sae is None else SAE

    @property
    def about(self) -> dict[str, Any]:
        """For artifacts."""
        return {**self.reader.about, "hook": self.hook, "space": self.space}

    @property
    def depends_on(self) -> dict[str, Any]:
        """All that averages depend on, besides the rows."""
        sae = {} if self.sae is None else {"sae": self.sae.fingerprint}
        return {**self.reader.depends_on, "hook": self.hook, **sae}

    def means(self, windows: Sequence[Window]) -> Means:
        """The mean over each window's scored tokens, `[n_windows, width]`: of residuals, dense; of
        features, sparse."""
        if not windows:
            return np.zeros((0, self.width), dtype=np.float32)
        if self.sae is None:
            residual: NDArray[np.float32] = self.reader.model.mean_residual(
                windows, READ_TOKENS
            ).numpy()
            return residual
        parts, positions = [], []
        for places, stream, mask in self.reader.model.streams(windows, READ_TOKENS):
            parts.append(_mean_features(self.sae, stream[mask], mask.sum(dim=1).cpu().numpy()))
            positions += places
        order = np.argsort(positions)
        stacked: sparse.csr_matrix = sparse.vstack(parts, format="csr")
        return stacked[order]

    def projections(
        self, windows: Sequence[Window], vectors: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Of the means on each of some vectors, `[n_vectors, width]`: `[n_windows, n_vectors]`."""
        return np.asarray(self.means(windows) @ vectors.T, dtype=np.float64)

    def responses(self, conversations: Sequence[Conversation]) -> list[Response | None]:
        """See `last_responses`."""
        return last_responses(self.reader, conversations)


def _mean_features(sae: Sae, tokens: torch.Tensor, counts: NDArray[np.int64]) -> sparse.csr_matrix:
    """`tokens`: residuals of scored tokens, window after window; `counts`: how many of each."""
    owner = np.repeat(np.arange(len(counts)), counts)
    pooled = sparse.csr_matrix((len(counts), sae.d_sae), dtype=np.float32)
    for start in range(0, len(tokens), CHUNK_TOKENS):
        active = sae.encode(tokens[start : start + CHUNK_TOKENS])
        row = owner[start + active.token.cpu().numpy()]
        entries = (active.value.float().cpu().numpy(), (row, active.feature.cpu().numpy()))
        pooled = pooled + sparse.coo_matrix(entries, shape=pooled.shape).tocsr()
    scale = sparse.diags((1 / np.maximum(counts, 1)).astype(np.float32))
    return (scale @ pooled).tocsr()


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


def answer_window(number: int, prompt: list[int], answer: list[int]) -> Window:
    """Prompt and answer as a window; an empty answer is read at the prompt's last token."""
    ids = np.array([*prompt, *answer], dtype=np.int64)
    scored = np.arange(len(ids)) >= min(len(prompt), len(ids) - 1)
    return Window(number, ids, scored, np.zeros((len(ids), 2), dtype=np.int32))


def shortened(reader: CausalReader, prompt: NDArray[np.int64], new_tokens: int) -> list[int]:
    """The end of a prompt that leaves room for an answer; never nothing."""
    return prompt[-(reader.context - new_tokens) :].tolist() or [reader.start]


def own_answers(
    reader: CausalReader, prompts: list[list[int]], new_tokens: int, temperature: float, seed: int
) -> list[list[int]]:
    """What the model writes after each prompt, as token ids; the random state is as it was."""
    model = reader.model
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed % (1 << 63))
        return model.answers(prompts, new_tokens, GENERATED_TOKENS, temperature=temperature)


GENERATED_TOKENS = 16384
"""Of a batch, prompts included: large, since a step for many answers costs little more than for one."""
