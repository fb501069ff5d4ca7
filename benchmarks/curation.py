"""Memory and time of curating from many texts on a wide SAE.

    python benchmarks/curation.py [--texts 20000] [--d-sae 65536]

A tiny random Llama and a random TopK SAE of full width: the model costs next to nothing, so that what
is measured is curation. The texts are random words; half of them draw from another vocabulary.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from saefilter.curate.curate import curate
from saefilter.curate.options import CurationOptions
from saefilter.curate.sources import ContrastRows
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.rows.formats import Conversation, Message

D_MODEL, WORDS, K = 64, 3000, 64


def model_and_sae(folder: Path, d_sae: int) -> None:
    """Random weights in the formats that are read."""
    torch.manual_seed(0)
    words = {f"w{i}": i for i in range(WORDS)} | {"<pad>": WORDS}
    tokenizer = Tokenizer(models.WordLevel(words, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    fast.save_pretrained(folder / "model")
    config = LlamaConfig(
        vocab_size=WORDS + 1, hidden_size=D_MODEL, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=128,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder / "model")
    decoder = torch.nn.functional.normalize(torch.randn(d_sae, D_MODEL), dim=1)
    (folder / "sae").mkdir()
    save_file(
        {"W_enc": decoder.T.contiguous(), "W_dec": decoder, "b_enc": torch.zeros(d_sae),
         "b_dec": torch.zeros(D_MODEL)},
        folder / "sae/sae_weights.safetensors",
    )  # fmt: skip
    (folder / "sae/cfg.json").write_text(
        json.dumps(
            {"architecture": "topk", "d_in": D_MODEL, "d_sae": d_sae, "k": K, "dtype": "float32",
             "apply_b_dec_to_input": True, "normalize_activations": "none",
             "metadata": {"hook_name": "blocks.1.hook_resid_post", "model_name": "random"}}
        )
    )  # fmt: skip


def texts(n: int, low: int, high: int, seed: int, length: int) -> list[Conversation]:
    rng = np.random.default_rng(seed)
    return [
        (Message("text", " ".join(f"w{i}" for i in rng.integers(low, high, length))),)
        for _ in range(n)
    ]


class Peak:
    """The largest resident memory while it is watched, in bytes."""

    def __enter__(self) -> Peak:
        self.process, self.bytes, self._stop = psutil.Process(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.bytes = max(self.bytes, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--d-sae", type=int, default=65_536)
    parser.add_argument("--length", type=int, default=40, help="tokens per text")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/curation.json"))
    args = parser.parse_args()
    half = args.texts // 2
    rows = ContrastRows(
        texts(half, 0, WORDS * 2 // 3, 1, args.length),
        texts(half, WORDS // 3, WORDS, 2, args.length),
        [{"name": "random", "side": side} for side in ("toxic", "benign")],
    )
    with tempfile.TemporaryDirectory() as scratch:
        model_and_sae(Path(scratch), args.d_sae)
        preset = resolve(None, f"{scratch}/model", f"{scratch}/sae", None)
        encoder = Encoder(preset)
        # one batch first: the model's own working memory is not curation's
        _, windows = encoder.renderer().render(rows.toxic[:512])
        encoder.encode(windows, 512)
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        with Peak() as peak:
            toxic_set = curate(encoder, [rows], name="random", options=CurationOptions())
        seconds = time.perf_counter() - started
    found = {
        "texts": args.texts, "tokens_per_text": args.length, "d_sae": args.d_sae, "k": K,
        "features": len(toxic_set.features), "seconds": round(seconds),
        "model_bytes": before, "peak_beyond_model_bytes": peak.bytes - before,
    }  # fmt: skip
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
