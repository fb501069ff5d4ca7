"""A causal language model with the renderer that goes with it, for strategies that read rows with one; and
the simplest of these, a ranking by perplexity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.provenance import Provenance
from saefilter.encode.causal import CausalModel, load_causal_model
from saefilter.encode.checkpoint import commit_of
from saefilter.encode.checks import hook_layers
from saefilter.encode.model import load_config, truncated_config
from saefilter.encode.placement import DEFAULT_CONTEXT, model_size, place
from saefilter.encode.presets import Preset
from saefilter.encode.rendering import build_renderer
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions
from saefilter.select.per_row import scored_once, weights_in
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

READ_TOKENS = 8192
"""Of a batch that is only read."""
MIN_BATCH_TOKENS = 512
LOGITS = {"cpu": 1 << 27, "cuda": 1 << 29}
"""Logits in memory at once; a few copies of them are made."""


@dataclass(frozen=True)
class CausalReader:
    """A loaded model and what results by it depend on."""

    model: CausalModel
    renderer: PlainRenderer
    context: int
    start: int
    """The token before an empty prompt: BOS, or what ends a text."""
    predicted_tokens: int
    """Of a batch whose tokens are predicted: the logits of a large vocabulary take much memory."""
    about: dict[str, Any]
    """Model, hook and rendering, for artifacts."""
    depends_on: dict[str, Any]
    """All that numbers read with it depend on."""

    @classmethod
    def load(cls, candidates: Candidates, selection: Selection, hook: str | None) -> CausalReader:
        """The model that the options name, else the scores' own; read at `hook`, None for its end.

        Raises SaefilterError when there is none, or it does not continue texts.
        """
        options = selection.options
        name, revision = model_of(candidates, selection)
        config = load_config(name, revision)
        depth = config.get_text_config().num_hidden_layers
        text = truncated_config(config, hook_layers(hook) if hook else depth, name)
        whole = truncated_config(config, depth, name)
        placement = place(
            model_size(whole).parameters, 0, device=options.device or "auto",
            dtype=options.dtype or "auto",
        )  # fmt: skip
        for reason in placement.reasons:
            candidates.watch.say(f"{selection.strategy}: {reason}")
        loaded = load_causal_model(
            name, text.num_hidden_layers, revision=revision, dtype=placement.dtype,
            device=placement.device, device_map=placement.device_map,
        )  # fmt: skip
        tokenizer = load_tokenizer(name, revision)
        context = int(getattr(whole, "max_position_embeddings", DEFAULT_CONTEXT))
        made = candidates.scores.provenance if candidates.scores else None
        rendering = made.rendering if made and made.model == name else "auto"
        renderer = build_renderer(
            tokenizer,
            Preset(name=name, summary=name, model=name, sae="", revision=revision),
            context=context,
            prepend_bos=True,  # or the first token of a text would follow nothing
            options=_options(made, hook) if made else None,
            rendering=rendering,
        )
        budget = LOGITS.get(placement.device.type, LOGITS["cpu"]) // whole.vocab_size
        about = {
            "model": Path(name).name if Path(name).is_dir() else name,
            "revision": commit_of(name, revision),
            "rendering": renderer.name,
            "dtype": placement.dtype,
        }
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        return cls(
            replace(loaded, count=candidates.cost.read),
            renderer,
            context,
            next(token for token in ends if token is not None),
            min(READ_TOKENS, max(MIN_BATCH_TOKENS, budget)),
            {name: value for name, value in about.items() if value is not None},
            {**about, "weights": weights_in(name), "options": vars(renderer.options)},
        )


def _options(made: Provenance, hook: str | None) -> RenderOptions:
    """As the scores were rendered. The loss is at the trained tokens, wherever the model was read; and
    what is read at a hook is an answer, of which the template's tokens are no part."""
    return RenderOptions.of(made, read="at", **({} if hook is None else {"trainer": None}))


def model_of(candidates: Candidates, selection: Selection) -> tuple[str, str | None]:
    """Name and revision. Raises SaefilterError when nothing names a model."""
    options = selection.options
    if options.model is not None:
        return options.model, options.revision
    made = candidates.scores.provenance if candidates.scores else None
    if made is None or made.model.startswith("package:"):
        raise SaefilterError(
            f"--strategy {selection.strategy} reads with a causal model, and the scores' model is none",
            remedy="Name one: --model ID or folder.",
        )
    return made.model, options.revision or made.revision


def default_hook(candidates: Candidates, selection: Selection) -> str:
    """Where the scores were read, where they are of the same model; else the middle of the model."""
    name, revision = model_of(candidates, selection)
    made = candidates.scores.provenance if candidates.scores else None
    if made is not None and made.model == name:
        return made.hook
    layers = load_config(name, revision).get_text_config().num_hidden_layers
    return f"blocks.{max(1, layers // 2) - 1}.hook_resid_post"


def rank_by_loss(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest mean loss over the trained tokens first, in nats per token; perplexity is its `exp`."""
    reader = CausalReader.load(candidates, selection, None)
    loss = scored_once(
        candidates,
        "loss",
        reader.depends_on,
        lambda conversations: mean_losses(reader, conversations),
    )
    return Ranking.by_score(
        loss,
        "loss in nats per token",
        "its trained tokens surprise the model",
        details=reader.about,
    )


def mean_losses(reader: CausalReader, conversations: Sequence[Conversation]) -> NDArray[np.float64]:
    """Mean loss of each conversation's trained tokens, `[n]`; NaN where there is none to predict.

    A window's first token follows nothing and is not counted.
    """
    _, windows = reader.renderer.render(conversations)
    total, count = np.zeros(len(conversations)), np.zeros(len(conversations))
    if windows:
        mean = reader.model.log_likelihood(windows, reader.predicted_tokens).double().numpy()
        predicted = np.array([window.scored[1:].sum() for window in windows])
        rows = np.array([window.row for window in windows])
        np.add.at(total, rows, -mean * predicted)
        np.add.at(count, rows, predicted)
    loss: NDArray[np.float64] = np.full(len(count), np.nan)
    return np.divide(total, count, out=loss, where=count > 0)
