"""When memory does not suffice: batches are halved, and the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import configs, save_model, small_tokenizer
from test_encoder import write_sae

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.encoder import Encoder
from saefilter.encode.fast.lanes import Lanes
from saefilter.encode.presets import load_preset
from saefilter.rows.formats import recognise


def encode_with(mebibytes: int, *model_and_sae: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("short_of_memory.py")), str(mebibytes),
            *model_and_sae,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_the_budget_with_it() -> None:
    plenty = encode_with(0)
    assert plenty["limit"] is None
    short = encode_with(20)
    assert short["limit"] is not None
    assert short["limit"] < 24 * 400
    assert short["sums"][0] == pytest.approx(plenty["sums"][0], rel=1e-3)


@pytest.mark.slow
def test_a_single_window_that_does_not_fit_beside_another_is_read_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine with memory for one batch at a time, whatever its size: two lanes take turns."""
    encoder = Encoder(load_preset("minilm"), device="cpu", dtype="fp32")
    _, windows = encoder.renderer().render(
        [
            recognise({"text": f"Number {i} says something about the weather. " * 30})
            for i in range(12)
        ]
    )
    plenty = encoder.encode(windows, 12)
    encoder.lanes = Lanes(encoder.device, 2)
    reads, at_once, refused = encoder.model.scored_residuals, threading.Semaphore(1), []

    def read(batch: PaddedBatch) -> torch.Tensor:
        if not at_once.acquire(blocking=False):
            refused.append(batch)
            raise MemoryError
        try:
            time.sleep(0.05)
            return reads(batch)
        finally:
            at_once.release()

    monkeypatch.setattr(encoder.model, "scored_residuals", read)
    short = encoder.encode(windows, 12, batch_tokens=1)
    assert refused
    np.testing.assert_allclose(short.residual, plenty.residual, atol=1e-4)


@pytest.mark.slow
def test_a_single_window_that_does_not_fit_is_a_clear_error(tmp_path: Path) -> None:
    """One allocation of it is larger than all that is left, so that no free corner of the heap
    can take it."""
    config = hf.LlamaConfig(**{**configs()["llama"].to_dict(), "max_position_embeddings": 1 << 20})
    model = tmp_path / "model"
    save_model(config, model, small_tokenizer(bos_token="<bos>", eos_token="<eos>"))
    sae = write_sae(tmp_path / "sae", d_model=config.hidden_size)
    error = encode_with(4, str(model), sae)["error"]
    assert "out of memory on cpu with a single window of 200000 tokens" in error
    assert "Use --dtype bf16, a smaller --max-tokens" in error
