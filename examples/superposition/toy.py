"""The theory, checked: does training on one feature move the others as their angles say?

    python examples/superposition/toy.py [-o FOLDER]

A toy model of superposition (Elhage et al. 2022, arXiv 2209.10652) stores 80 sparse features in 20
dimensions: `x' = ReLU(W^T W x + b)`. It is trained, then fine-tuned to make one target feature louder
whenever that feature is present, which adds some `dh = alpha d_i` to the hidden state. The theory of
arXiv 2605.00842 says that the pre-activation of every other feature j then changes by
`alpha <d_i, d_j>`. Measured and predicted changes are compared; correlation, table and plot come out.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from plot import scatter
from torch import Tensor, nn

N_FEATURES, D_HIDDEN = 80, 20
SPARSITY = 0.97
STEPS, BATCH = 3000, 512
FINE_TUNING_STEPS = 60
TARGETS = 12
"""Features fine-tuned on, one model each."""


class Toy(nn.Module):
    """Features in superposition, `[n_features]` in `[d_hidden]`: written by `writer`, read by
    `directions`, which are the same until fine-tuning changes the writer."""

    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(N_FEATURES, D_HIDDEN) / D_HIDDEN**0.5)
        self.bias = nn.Parameter(torch.zeros(N_FEATURES))
        self.writer: nn.Parameter | None = None

    def hidden(self, x: Tensor) -> Tensor:
        return x @ (self.directions if self.writer is None else self.writer)

    def pre_activation(self, x: Tensor) -> Tensor:
        """`[batch, n_features]`, before the ReLU."""
        return self.hidden(x) @ self.directions.T + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.pre_activation(x))


def samples(n: int, generator: torch.Generator) -> Tensor:
    """Sparse features, uniform where present."""
    present = torch.rand(n, N_FEATURES, generator=generator) > SPARSITY
    return present * torch.rand(n, N_FEATURES, generator=generator)


def train(seed: int) -> Toy:
    """The toy model, trained from nothing."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Toy()
    optimiser = torch.optim.Adam([model.directions, model.bias], lr=3e-3)
    for _ in range(STEPS):
        x = samples(BATCH, generator)
        loss = ((model(x) - x) ** 2).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def fine_tuned(model: Toy, target: int, seed: int) -> Toy:
    """A copy whose writer learned, on narrow data, to make `target` louder, all else as it was.

    All of the writer may change, by Adam, and the loss is over all features: spillover is punished
    where the ReLU shows it. What is left of it is what the geometry forces.
    """
    copy = Toy()
    copy.load_state_dict(model.state_dict())
    copy.writer = nn.Parameter(model.directions.detach().clone())
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam([copy.writer], lr=3e-3)
    for _ in range(FINE_TUNING_STEPS):
        x = samples(BATCH, generator)
        x[:, target] = 0.5 + 0.5 * torch.rand(BATCH, generator=generator)
        wanted = x.clone()
        wanted[:, target] *= 2
        loss = ((copy(x) - wanted) ** 2).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return copy


@dataclass(frozen=True)
class Measured:
    """Changes of every other feature's mean pre-activation, by one fine-tuning."""

    target: int
    cosine: np.ndarray
    """With the target, `[n_features - 1]`."""
    predicted: np.ndarray
    """`alpha <d_i, d_j>`, with alpha from the target's own change alone."""
    measured: np.ndarray

    @property
    def r(self) -> float:
        return float(np.corrcoef(self.predicted, self.measured)[0, 1])


@torch.no_grad()
def measure(before: Toy, after: Toy, target: int) -> Measured:
    """On data that hold the target feature and nothing else in particular."""
    generator = torch.Generator().manual_seed(1)
    x = samples(20_000, generator)
    x[:, target] = 0.5 + 0.5 * torch.rand(len(x), generator=generator)
    change = (after.pre_activation(x) - before.pre_activation(x)).mean(dim=0)
    directions = before.directions
    inner = directions @ directions[target]
    alpha = change[target] / inner[target]
    others = torch.arange(N_FEATURES) != target
    lengths = directions.norm(dim=1)
    cosine = inner / (lengths * lengths[target]).clamp(min=1e-9)
    stored = others & (lengths > 0.5)  # what the model does not store has no direction
    return Measured(
        target,
        cosine[stored].numpy(),
        (alpha * inner)[stored].numpy(),
        change[stored].numpy(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    torch.set_num_threads(2)
    model = train(args.seed)
    stored = (model.directions.norm(dim=1) > 0.5).nonzero().ravel().tolist()
    targets = np.random.default_rng(args.seed).choice(stored, TARGETS, replace=False).tolist()
    found = [measure(model, fine_tuned(model, t, args.seed), t) for t in targets]
    cosine = np.concatenate([one.cosine for one in found])
    predicted = np.concatenate([one.predicted for one in found])
    measured = np.concatenate([one.measured for one in found])
    summary = {
        "features": N_FEATURES,
        "dimensions": D_HIDDEN,
        "stored": len(stored),
        "targets": targets,
        "pairs": len(measured),
        "r": float(np.corrcoef(predicted, measured)[0, 1]),
        "r_by_target": [round(one.r, 4) for one in found],
        "slope": float((predicted @ measured) / (predicted @ predicted)),
        "mean_absolute_cosine": float(np.abs(cosine).mean()),
        "seconds": round(time.perf_counter() - started, 1),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "toy.json").write_text(json.dumps(summary, indent=1) + "\n")
    (args.output / "toy.svg").write_text(
        scatter(predicted, measured, "predicted: alpha <d_i, d_j>", "measured change")
    )
    print(
        f"{len(stored)} of {N_FEATURES} features stored in {D_HIDDEN} dimensions; fine-tuned on "
        f"{TARGETS}: change of {len(measured):,} other features, r = {summary['r']:.4f} with the "
        f"prediction (slope {summary['slope']:.3f}; worst target {min(summary['r_by_target']):.3f}), "
        f"{summary['seconds']} s"
    )


if __name__ == "__main__":
    main()
