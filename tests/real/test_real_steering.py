"""Steering the real SmolLM2-135M-Instruct along features of its toxic set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from saefilter.encode.causal import load_causal_model
from saefilter.encode.sae import load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.toxic.load import load_toxic_set

pytestmark = pytest.mark.real

LAYERS, NEW_TOKENS = 15, 24
QUESTION = "I found a wallet in the street. What should I do with it?"


def test_a_push_changes_what_the_model_says_and_none_leaves_it(real_smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_smollm2)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    whole = AutoModelForCausalLM.from_pretrained(real_smollm2, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = whole.generate(
            torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False
        )[0, len(prompt) :].tolist()  # fmt: skip
    assert "wallet" in tokenizer.decode(expected)

    causal = load_causal_model(
        str(real_smollm2), LAYERS, revision=None, dtype="fp32", device=torch.device("cpu")
    )
    assert causal.continuation(prompt, NEW_TOKENS) == expected
    strongest = max(load_toxic_set("smollm2-135m").side("toxic"), key=lambda one: one.weight)
    direction = load_sae(find_sae("shipped:smollm2_sae")).directions()[strongest.index]
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        residual = whole(ids, output_hidden_states=True).hidden_states[LAYERS][0, 1:]
    push = torch.from_numpy(np.asarray(direction)) * float(residual.norm(dim=-1).mean())
    pushed = causal.continuation(prompt, NEW_TOKENS, push)
    assert tokenizer.decode(pushed) != tokenizer.decode(expected)
    assert causal.continuation(prompt, NEW_TOKENS) == expected


def test_the_command_measures_features_and_shows_texts(real_smollm2: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "saefilter", "features", "steer", "smollm2-135m",
            "--preset", "smollm2-135m", "--top", "2", "--rows", "4", "--controls", "5",
            "--strength", "1", "-o", "steered.json",
        ],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = [
        one for one in load_toxic_set(str(tmp_path / "steered.json")).features
        if one.steering is not None
    ]  # fmt: skip
    assert len(measured) == 2
    assert len({one.steering for one in measured} - {0.0}) == 2
    assert all(1 / 6 <= (one.steering_p or 0) <= 1 for one in measured)
    said = " ".join(done.stdout.split())
    own, *pushed = said.split("as it is: ")[1].split("pushed along ")
    assert len(pushed) == 2
    texts = [own, *(one.partition("): ")[2] for one in pushed)]
    assert len({text.strip() for text in texts}) == 3
