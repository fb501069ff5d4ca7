"""Does a toxic feature cause what it is called after? Push the model along it and measure.

A feature's direction is added to the residual stream at the hook; the effect is how much likelier
that makes toxic continuations than benign ones, in nats per token. Random directions of equal length
say what any push does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from saefilter.curate.sources import ContrastRows
from saefilter.encode.causal import CausalModel
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import Window
from saefilter.toxic.edit import noted
from saefilter.toxic.toxicset import ToxicSet

DEFAULT_STRENGTH = 0.3
CONTROLS = 40
MIN_ROWS = 4


@dataclass(frozen=True)
class Probe:
    """Rendered continuations, toxic and benign, and how likely the model finds them by itself."""

    model: CausalModel
    windows: list[Window]
    toxic: NDArray[np.bool_]
    """`[n_windows]`"""
    baseline: NDArray[np.float64]
    """Log-probability per token, `[n_windows]`."""
    length: float
    """Of every push: a share of the mean residual norm."""
    batch_tokens: int

    @classmethod
    def of(
        cls,
        model: CausalModel,
        renderer: PlainRenderer,
        rows: ContrastRows,
        *,
        strength: float = DEFAULT_STRENGTH,
        batch_tokens: int = 4096,
    ) -> Probe:
        """Raises SaefilterError when there are too few continuations on a side."""
        windows: list[Window] = []
        toxic: list[bool] = []
        for side, conversations in ((True, rows.toxic), (False, rows.benign)):
            of_side = _scored_windows(renderer, conversations)
            if len(of_side) < MIN_ROWS:
                raise SaefilterError(
                    f"only {len(of_side)} {'toxic' if side else 'benign'} continuations can be "
                    f"scored; at least {MIN_ROWS} are needed"
                )
            windows += of_side
            toxic += [side] * len(of_side)
        baseline = model.log_likelihood(windows, batch_tokens).double().numpy()
        length = strength * model.residual_norm(windows, batch_tokens)
        return cls(model, windows, np.array(toxic), baseline, length, batch_tokens)

    def push(self, direction: NDArray[np.float32]) -> torch.Tensor:
        """What is added to the stream for a unit direction, `[d_model]`."""
        return torch.from_numpy(np.asarray(direction, dtype=np.float32) * self.length)

    def effect(self, direction: NDArray[np.float32]) -> float:
        """Change of the toxic continuations' log-probability per token minus the benign ones'."""
        pushed = self.model.log_likelihood(self.windows, self.batch_tokens, self.push(direction))
        change = pushed.double().numpy() - self.baseline
        return float(change[self.toxic].mean() - change[~self.toxic].mean())

    def controls(self, d_model: int, count: int, seed: int = 0) -> NDArray[np.float64]:
        """Effects of random unit directions, `[count]`."""
        rng = np.random.default_rng(seed)
        directions = rng.normal(size=(count, d_model))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return np.array([self.effect(direction.astype(np.float32)) for direction in directions])


def steer(
    toxic_set: ToxicSet,
    probe: Probe,
    directions: NDArray[np.float32],
    indices: Sequence[int],
    *,
    controls: int = CONTROLS,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> ToxicSet:
    """The set with the measured effect of some of its features.

    `directions`: unit decoder directions, `[d_sae, d_model]`. A benign feature is expected to work
    the other way; `steering_p` is the share of random directions that do as much its way.
    """
    random = probe.controls(directions.shape[1], controls, seed)
    wanted = set(indices)
    features = []
    for feature in toxic_set.features:
        if feature.index in wanted:
            effect = probe.effect(directions[feature.index])
            as_much = random >= effect if feature.side == "toxic" else random <= effect
            p = (1 + int(as_much.sum())) / (1 + len(random))
            feature = replace(feature, steering=float(f"{effect:.5g}"), steering_p=round(p, 4))
            if advance is not None:
                advance(1)
        features.append(feature)
    changed = replace(toxic_set, features=features)
    return noted(
        changed,
        f"steered by {len(wanted)} features",
        f"{int(probe.toxic.sum())} toxic and {int((~probe.toxic).sum())} benign continuations, "
        f"push {probe.length:.3g}, {controls} random directions",
    )


def _scored_windows(renderer: PlainRenderer, conversations: Sequence[Conversation]) -> list[Window]:
    """One window for each conversation with anything to score; of long ones the first."""
    _, windows = renderer.render(conversations)
    first: dict[int, Window] = {}
    for window in windows:
        if window.scored[1:].any():
            first.setdefault(window.row, window)
    return list(first.values())
