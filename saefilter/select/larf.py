"""Layer-aware representation filtering (LARF; Li et al. 2025, arXiv 2507.18631): how much more alike a row's
last token is to unsafe than to safe examples, after the layer that safety depends on most.

As in the paper, a row's representation is the residual stream at its last token, and its score the mean
cosine to the unsafe examples less that to the safe ones. The paper finds the layer by scaling each
layer's parameters up and down and counting refusals of harmless prompts. Here, where no such prompts and
no judge of refusals are at hand, what changes is the model's margin between the answers of the contrast
rows themselves, and what is scaled is the layer's contribution to the residual stream, by so little that
one backward pass tells it of all layers. With refusals as benign contrast rows the margin is that between
complying and refusing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saefilter.encode.batches import PaddedBatch, pad, plan_batches
from saefilter.encode.causal import CausalModel, layer_stack
from saefilter.encode.checks import hook_layers
from saefilter.rows.formats import Conversation
from saefilter.rows.rendered import Window
from saefilter.select.causal_reader import CausalReader
from saefilter.select.classifiers import ContrastPair, read_contrast
from saefilter.select.layered import (
    Floats,
    anchors,
    digest_of,
    hook_after,
    learnt_once,
    load_layers,
    pooled_layers,
    usable_sides,
)
from saefilter.select.per_row import scored_once
from saefilter.select.projection_difference import last_responses
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

BACKWARD_SHARE = 4
"""Of the tokens that are only predicted at once, so many times fewer go through a backward pass."""
MIN_BACKWARD_TOKENS = 256
STANDS_OUT = 3
"""Standard errors, since the largest of many layers is looked at."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest difference of mean cosines first, -2 to 2."""
    reader = load_layers(candidates, selection)
    contrast = anchors(read_contrast(candidates, selection.options))
    asked = hook_layers(selection.options.hook) if selection.options.hook else None
    depends_on = {**reader.depends_on, "contrast": contrast.about, "layer": asked}
    learnt = Learnt.of(
        learnt_once(
            candidates, "larf", depends_on, lambda: learn(reader, contrast, asked).numbers()
        )
    )

    if not asked and not learnt.stands_out:
        candidates.watch.say(
            "larf: no layer's sensitivity stands out from chance on these contrast rows, and the middle one, "
            f"{learnt.layer}, is read. Refusals as benign contrast rows tell more, or name the layer: --hook"
        )

    def score(conversations: Sequence[Conversation]) -> NDArray[np.float64]:
        tokens, readable = last_tokens(reader, conversations, learnt.layer)
        value = np.full(len(conversations), np.nan)
        value[readable] = unit(tokens[readable]) @ learnt.direction
        return value

    return Ranking.by_score(
        scored_once(
            candidates,
            "larf",
            digest_of(learnt.direction, **reader.depends_on, layer=learnt.layer),
            score,
        ),
        "cosine to unsafe examples less that to safe ones",
        "by how much more its last token is like unsafe examples than like safe ones",
        details={
            **reader.about,
            "hook": hook_after(learnt.layer),
            "layer": _how_found(learnt),
            "sensitivity": np.round(learnt.sensitivity.astype(float), 4).tolist(),
            "contrast": contrast.about,
        },
    )


def _how_found(learnt: Learnt) -> str:
    if not len(learnt.sensitivity):
        return "as asked for"
    return "the most safety-sensitive" if learnt.stands_out else "the middle one: none stands out"


class Learnt(NamedTuple):
    """The layer and what is unsafe there."""

    layer: int
    """Counted from 1."""
    sensitivity: Floats
    """Of every layer and its standard error, or empty where the layer was asked for, `[n_layers, 2]`."""
    direction: Floats
    """Mean of the unsafe examples' unit vectors less that of the safe ones', `[d_model]`: a unit vector's
    product with it is the difference of its mean cosines."""

    def numbers(self) -> Floats:
        """All of it in one row, to be kept."""
        head = np.array([self.layer, len(self.sensitivity)], dtype=np.float32)
        return np.concatenate([head, self.sensitivity.ravel(), self.direction])

    @property
    def stands_out(self) -> bool:
        """Whether the most sensitive layer is so by more than what chance makes of the contrast rows."""
        return bool(len(self.sensitivity)) and most_sensitive(self.sensitivity) is not None

    @classmethod
    def of(cls, numbers: Floats) -> Learnt:
        """What was kept."""
        end = 2 + 2 * int(numbers[1])
        return cls(int(numbers[0]), numbers[2:end].reshape(-1, 2), numbers[end:])


def learn(reader: CausalReader, contrast: ContrastPair, layer: int | None) -> Learnt:
    """The most safety-sensitive layer, or the middle one where none stands out, unless one is asked for, and the
    direction there. Raises SaefilterError when a side of the contrast cannot be read."""
    sensitivity: Floats = np.empty((0, 2), dtype=np.float32)
    if layer is None:
        sensitivity = safety_sensitivity(reader, contrast)
        layer = most_sensitive(sensitivity) or max(1, len(sensitivity) // 2)
    tokens, readable = last_tokens(reader, contrast.conversations, layer)
    usable_sides(contrast.toxic, readable)
    vectors = unit(tokens)
    unsafe = vectors[contrast.toxic & readable].mean(axis=0)
    safe = vectors[~contrast.toxic & readable].mean(axis=0)
    return Learnt(layer, sensitivity, unsafe - safe)


def most_sensitive(sensitivity: Floats) -> int | None:
    """The layer, from 1, whose `safety_sensitivity`, `[n_layers, 2]`, is largest; None where that is chance."""
    value, error = np.abs(sensitivity).T
    layer = int(value.argmax())
    return layer + 1 if value[layer] > STANDS_OUT * error[layer] else None


def last_tokens(
    reader: CausalReader, conversations: Sequence[Conversation], layer: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """The residual stream after a layer at each row's last token, the template's included, `[n, d_model]`,
    and which rows have one, `[n]`. A row longer than the context is read as far as it reaches."""
    _, windows = reader.renderer.render(conversations)
    first: dict[int, Window] = {}
    for window in windows:
        first.setdefault(window.row, window)
    last = [np.eye(1, len(window.ids), len(window.ids) - 1)[0] for window in first.values()]
    weights = [one.astype(np.float32) for one in last]
    readable = np.zeros(len(conversations), dtype=bool)
    readable[list(first)] = True
    streams = pooled_layers(reader, list(first.values()), weights, [layer])[:, 0]
    tokens = np.zeros((len(conversations), streams.shape[-1]), dtype=np.float32)
    tokens[list(first)] = streams
    return tokens, readable


def unit(vectors: Floats) -> Floats:
    """Each vector at length 1, `[n, d]`; one without length stays as it is."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
    return scaled


def safety_sensitivity(reader: CausalReader, contrast: ContrastPair) -> Floats:
    """By how much the margin between safe and unsafe answers, in nats per token, changes with a layer's
    scale: `d(mean log p(safe) - mean log p(unsafe)) / d scale` at scale 1, with its standard error over
    rows, `[n_layers, 2]`."""
    responses = last_responses(reader, contrast.conversations)
    usable = np.array([response is not None for response in responses])
    usable_sides(contrast.toxic, usable)
    windows = [response.window for response in responses if response is not None]
    budget = max(MIN_BACKWARD_TOKENS, reader.predicted_tokens // BACKWARD_SHARE)
    slopes = scale_slopes(reader.model, windows, budget)
    safe, unsafe = slopes[~contrast.toxic[usable]], slopes[contrast.toxic[usable]]
    error = np.sqrt(safe.var(axis=0) / len(safe) + unsafe.var(axis=0) / len(unsafe))
    sensitivity: Floats = np.stack([safe.mean(axis=0) - unsafe.mean(axis=0), error], axis=1)
    return sensitivity


def scale_slopes(model: CausalModel, windows: Sequence[Window], batch_tokens: int) -> Floats:
    """The derivative of each window's mean log-probability of its scored tokens by the scale of every
    layer's contribution, `[n_windows, n_layers]`."""
    stack = layer_stack(model.model)
    slopes = np.zeros((len(windows), len(stack)), dtype=np.float32)
    model.model.requires_grad_(False)
    for positions in plan_batches([len(window.ids) for window in windows], batch_tokens):
        batch = pad([windows[position] for position in positions], 0)
        scale = torch.ones(len(stack), len(positions), device=model.device, requires_grad=True)
        with ExitStack() as hooks, torch.enable_grad():
            for number, layer in enumerate(stack):
                handle = layer.register_forward_hook(_scaled_by(scale[number]), with_kwargs=True)
                hooks.callback(handle.remove)
            torch.autograd.backward(mean_log_p(model, batch).sum())
        assert scale.grad is not None
        slopes[positions] = scale.grad.T.cpu().numpy()
    return slopes


def _scaled_by(scale: Tensor) -> Callable[..., Any]:
    """A hook that multiplies what a layer adds to the residual stream, row by row, `[batch]`."""

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        before = args[0] if args else kwargs["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        moved = before + scale.to(after)[:, None, None] * (after - before)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    return hook


def mean_log_p(model: CausalModel, batch: PaddedBatch) -> Tensor:
    """Mean log-probability of each row's scored tokens, nats per token, `[batch]`; differentiable, and with
    no more than the scored tokens' logits in fp32."""
    logits = model.model(
        input_ids=batch.ids.to(model.device),
        attention_mask=batch.attention.to(model.device),
        use_cache=False,
    ).logits
    scored = batch.scored[:, 1:].to(logits.device)
    target = batch.ids[:, 1:].to(logits.device)[scored]
    log_p = -nn.functional.cross_entropy(logits[:, :-1][scored].float(), target, reduction="none")
    rows = torch.nonzero(scored)[:, 0]
    sums = torch.zeros(len(scored), device=logits.device).index_add(0, rows, log_p)
    return sums / scored.sum(dim=1).clamp(min=1)
