"""What strategies share that look at every layer of a causal model before they choose one: contrast rows of
a number that stays payable, what they say at each layer, and what was learnt kept for a rerun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saefilter.encode.batches import pad, plan_batches
from saefilter.encode.causal import layer_stack
from saefilter.encode.model import load_config
from saefilter.errors import SaefilterError
from saefilter.rows.rendered import Window
from saefilter.select.causal_reader import READ_TOKENS, CausalReader, model_of
from saefilter.select.classifiers import ContrastPair
from saefilter.select.learnt import Learnt, kept_once
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Selection

ANCHORS = 128
"""Contrast rows of either side that are learnt from, at most: the papers take 100."""
Floats = NDArray[np.float32]


class _Read(Exception):
    """The highest layer that is wanted has been read."""


def load_layers(candidates: Candidates, selection: Selection) -> CausalReader:
    """The model that the options name, else the scores' own, to be read at any layer: at the answers, as
    `--hook` says, or after its last layer as long as none is chosen."""
    name, revision = model_of(candidates, selection)
    depth = load_config(name, revision).get_text_config().num_hidden_layers
    hook = selection.options.hook or hook_after(depth)
    return CausalReader.load(candidates, selection, hook)


def hook_after(layer: int) -> str:
    """The hook after a layer, counted from 1, in TransformerLens's words."""
    return f"blocks.{layer - 1}.hook_resid_post"


def anchors(contrast: ContrastPair, most: int = ANCHORS) -> ContrastPair:
    """At most so many rows of either side, evenly spaced: where both sides answer the same prompts in the
    same order, they still do."""
    kept = np.concatenate(
        [
            side[np.linspace(0, len(side) - 1, min(most, len(side))).round().astype(np.int64)]
            for side in (np.flatnonzero(contrast.toxic), np.flatnonzero(~contrast.toxic))
        ]
    )
    conversations = [contrast.conversations[row] for row in kept]
    return replace(contrast, conversations=conversations, toxic=contrast.toxic[kept])


def usable_sides(toxic: NDArray[np.bool_], usable: NDArray[np.bool_]) -> None:
    """Raises SaefilterError for contrast rows, `[n]`, of which a side has none that can be read."""
    for side, name in ((toxic & usable, "toxic"), (~toxic & usable, "benign")):
        if not side.any():
            raise SaefilterError(
                f"no {name} contrast row can be read with the model",
                remedy=f"Look at the inputs of --contrast-{name}.",
            )


def pooled_layers(
    reader: CausalReader,
    windows: Sequence[Window],
    weights: Sequence[Floats],
    layers: Sequence[int],
) -> Floats:
    """Weighted sums of the residual stream's tokens after some layers, `[n_windows, n_layers, d_model]`.

    `weights`: of each window's tokens, `[n_tokens]`; `layers` count from 1 and ascend. What lies above
    the last of them is not run, and no layer's tokens are held longer than until the next one.
    """
    stack = layer_stack(reader.model.model)
    width = reader.model.model.config.get_text_config().hidden_size
    pooled = np.zeros((len(windows), len(layers), width), dtype=np.float32)
    share = torch.empty(0)
    place: list[int] = []

    def read(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            stream = output[0] if isinstance(output, tuple) else output
            pooled[place, number] = _weighted(stream, share).cpu().numpy()
            if number == len(layers) - 1:
                raise _Read

        return keep

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            handle = stack[layer - 1].register_forward_hook(read(number))
            hooks.callback(handle.remove)
        for positions in plan_batches([len(window.ids) for window in windows], READ_TOKENS):
            place = positions
            batch = pad([windows[position] for position in positions], 0)
            share = torch.zeros(batch.ids.shape)
            for row, position in enumerate(positions):
                share[row, : len(weights[position])] = torch.from_numpy(weights[position])
            with torch.inference_mode(), suppress(_Read):
                reader.model.model(
                    input_ids=batch.ids.to(reader.model.device),
                    attention_mask=batch.attention.to(reader.model.device),
                    use_cache=False,
                )
            reader.model.count(int(batch.attention.sum()))
    return pooled


def _weighted(stream: Tensor, share: Tensor) -> Tensor:
    """`[batch, tokens, d_model]` and `[batch, tokens]` to `[batch, d_model]`."""
    share = share.to(stream.device)
    # where, not times: padding may hold values that are not finite
    terms = torch.where(share[..., None] != 0, stream.float() * share[..., None], 0.0)
    return terms.sum(dim=1)


def learnt_once(
    candidates: Candidates, kind: str, depends_on: dict[str, Any], learn: Callable[[], Floats]
) -> Floats:
    """What was learnt from contrast rows, numbers `[n]`: out of the cache, or learnt and kept there."""

    def learn_aloud() -> Learnt:
        candidates.watch.say(f"{kind}: learning from the contrast rows, once")
        return Learnt(learn().astype(np.float64), {})

    return kept_once(candidates, kind, depends_on, learn_aloud).numbers.astype(np.float32)


def digest_of(numbers: Floats, **also: Any) -> dict[str, Any]:
    """What scores depend on that were made by these numbers."""
    return {**also, "learnt": hashlib.sha256(numbers.tobytes()).hexdigest()}
