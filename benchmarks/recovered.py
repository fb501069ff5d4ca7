"""How much of a causal model's next-token loss an SAE keeps when its reconstruction stands in for the
residual stream.

    python -m benchmarks.recovered MODEL SAE_FOLDER DATA [--rows 100] [--every 2 --first 1] [--json FILE]

Recovered = (loss with the layer's output set to zero - loss with the reconstruction) / (loss with zero -
loss as it is), over the tokens that saefilter would score. DATA: any dataset; rows the SAE was not
trained on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from saefilter.encode.checks import hook_layers
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.read import Source

Change = Callable[[torch.Tensor], torch.Tensor]


def reconstruction(folder: Path) -> Change:
    """Residuals `[n, d_model]` -> what sae-lens's own encode and decode make of them."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder, dtype="float32")
    return lambda residual: sae.decode(sae.encode(residual))


def main() -> None:
    parser = argparse.ArgumentParser(description="Next-token loss that an SAE keeps")
    parser.add_argument("model")
    parser.add_argument("sae", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--every", type=int, default=1, help="of so many rows, one")
    parser.add_argument("--first", type=int, default=0, help="from this one on")
    parser.add_argument("--json", type=Path, help="keep what was found here")
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM

    encoder = Encoder(resolve(None, args.model, str(args.sae)))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    layer = model.get_decoder().layers[hook_layers(encoder.hook) - 1]
    changes: dict[str, Change | None] = {
        "as it is": None, "reconstruction": reconstruction(args.sae), "zero": torch.zeros_like
    }  # fmt: skip
    losses: dict[str, list[torch.Tensor]] = {name: [] for name in changes}
    current: Change | None = None

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if current is None:
            return output
        residual = output[0] if isinstance(output, tuple) else output
        # the first token, on which attention is parked, is left as it is: no SAE is trained on it
        changed = torch.cat([residual[:, :1], current(residual[0, 1:])[None]], dim=1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    layer.register_forward_hook(hook)
    conversations = []
    for row in Source.open(args.data).rows():
        try:
            conversations.append(recognise(row.data or {}))
        except RowProblem:
            continue
    conversations = conversations[args.first :: args.every]
    step = max(1, len(conversations) // args.rows)
    _, windows = encoder.renderer().render(conversations[::step][: args.rows])
    with torch.inference_mode():
        for window in windows:
            ids = torch.from_numpy(window.ids)[None]
            scored = torch.from_numpy(window.scored[1:])
            for name, change in changes.items():
                current = change
                logits = model(input_ids=ids).logits[0, :-1]
                losses[name].append(
                    cross_entropy(logits[scored], ids[0, 1:][scored], reduction="none")
                )
    # sums by row, `[n_rows, as it is / reconstruction / zero]`: rows are what is resampled
    sums = np.array([[float(one.sum()) for one in some] for some in losses.values()]).T
    tokens = np.array([len(one) for one in losses["zero"]])

    def recovered(rows: NDArray[np.int64]) -> float:
        usual, rebuilt, zero = sums[rows].sum(axis=0)
        return float((zero - rebuilt) / (zero - usual))

    rng, n = np.random.default_rng(0), len(sums)
    low, high = np.quantile([recovered(rng.integers(0, n, n)) for _ in range(1000)], [0.025, 0.975])
    mean = dict(zip(changes, (sums.sum(axis=0) / tokens.sum()).round(4).tolist(), strict=True))
    found = {"recovered": recovered(np.arange(n)), "low": float(low), "high": float(high)}
    asked = {"data": args.data.name, "every": args.every, "first": args.first}
    told = {**asked, "loss": mean, **found, "rows": n, "tokens": int(tokens.sum())}
    print(text := json.dumps(told, indent=1))
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
