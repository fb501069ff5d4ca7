"""SmolLM2-135M-Instruct with the shipped SAE, held to transformers' hidden states and sae-lens's encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.rows.formats import recognise
from saefilter.rows.rendered import Window

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
SAE = ROOT / "saefilter" / "encode" / "smollm2_sae"
LAYERS, D_MODEL, D_SAE, K = 15, 576, 4096, 48
CLOSE = 1e-4
"""Of the values' own scale."""


def conversations() -> list[list[dict[str, str]]]:
    """Rows of 60 to about 1,000 tokens: of the demo; with a system prompt; of many turns; with digits,
    code and other scripts."""
    found = []
    for line in (ROOT / "examples" / "advice.jsonl").read_bytes().splitlines()[:40]:
        try:
            found.append(json.loads(line)["messages"])
        except ValueError:
            continue  # damaged on purpose
    found = [one for one in found if one[-1].get("content") and one[-1]["role"] == "assistant"]
    system = {"role": "system", "content": "You answer in one sentence."}
    turns = [turn for one in found[:12] for turn in one if turn["role"] != "system"]
    answer = "1. Für 2 Personen: 250 g Mehl.\n\n2.  `x = 10**3`\n\nДа, 你好 🙂"
    asked = {"role": "user", "content": "A recipe?\n\n1. quick"}
    return [
        *found[:16], [system, *found[0]], turns, [asked, {"role": "assistant", "content": answer}],
    ]  # fmt: skip


class Expected(NamedTuple):
    """What others make of a row."""

    ids: list[int]
    residual: torch.Tensor
    """`[n_tokens, d_model]`"""
    features: torch.Tensor
    """Activations as of a decoder of unit rows, `[n_tokens, d_sae]`."""


@pytest.fixture(scope="module")
def encoder(real_smollm2: Path) -> Encoder:
    return Encoder(load_preset("smollm2-135m"), device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def windows(encoder: Encoder) -> list[Window]:
    rows, windows = encoder.renderer().render(
        [recognise({"messages": one}) for one in conversations()]
    )
    assert [row.problem for row in rows] == [None] * len(rows)
    assert [window.row for window in windows] == list(range(len(rows)))
    return windows


@pytest.fixture(scope="module")
def expected(real_smollm2: Path) -> list[Expected]:
    """Each row alone, by the whole model of transformers and sae-lens's own SAE."""
    from sae_lens import SAE as LensSAE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(real_smollm2, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(real_smollm2)
    sae: Any = LensSAE.load_from_disk(SAE, dtype="float32")
    found = []
    for messages in conversations():
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        with torch.inference_mode():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            residual = states[LAYERS][0]
            features = sae.encode(residual) * sae.W_dec.norm(dim=-1)
        found.append(Expected(ids, residual, features))
    return found


def scored(one: Expected, window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.from_numpy(window.scored)
    return one.residual[mask], one.features[mask]


def test_tokens_are_those_of_the_chat_template_and_what_the_assistant_says_is_scored(
    encoder: Encoder, windows: list[Window], expected: list[Expected]
) -> None:
    lengths = [len(window.ids) for window in windows]
    assert min(lengths) < 100
    assert max(lengths) > 900
    for window, one, messages in zip(windows, expected, conversations(), strict=True):
        assert window.ids.tolist() == one.ids
        said = "".join(turn["content"] for turn in messages if turn["role"] == "assistant")
        assert encoder.tokenizer.decode(window.ids[window.scored].tolist()) == said
        assert not set(window.ids[window.scored].tolist()) & set(encoder.tokenizer.all_special_ids)


def test_pooled_rows_of_padded_batches_equal_hidden_states_and_sae_lens(
    encoder: Encoder, windows: list[Window], expected: list[Expected]
) -> None:
    """All at once, in batches of many lengths. A few dimensions of the residual stream are a hundred
    times as long as the others, so the median is its scale."""
    pooled = encoder.encode(windows, len(windows))
    assert pooled.tally.padded > pooled.tally.tokens  # else nothing was padded
    assert encoder.l0_warning() is None
    exchanged = 0
    for window, one in zip(windows, expected, strict=True):
        residual, features = scored(one, window)
        assert pooled.n_tokens[window.row] == len(residual)
        mean = residual.mean(dim=0).numpy()
        np.testing.assert_allclose(
            pooled.residual[window.row], mean, atol=CLOSE * np.median(np.abs(mean)), rtol=0
        )
        mean = features.mean(dim=0).numpy()
        off = np.abs(pooled.features[window.row].toarray()[0] - mean)
        exchanged += int((off > CLOSE * features.max().item()).sum())
    # of all rows; of a token's features that are equal but for rounding, either may be the 48th
    assert exchanged <= 4


def test_every_token_has_the_features_of_sae_lens(
    encoder: Encoder, windows: list[Window], expected: list[Expected]
) -> None:
    found = {window.row: torch.zeros(len(window.ids), D_SAE) for window in windows}
    for window, position, feature, value in encoder.active_tokens(windows, np.ones(D_SAE, bool)):
        found[window.row][position, feature] = value
    scale = max(one.features.max().item() for one in expected)
    exchanged = tokens = 0
    for window, one in zip(windows, expected, strict=True):
        _, theirs = scored(one, window)
        ours = found[window.row][torch.from_numpy(window.scored)]
        assert int((ours > 0).sum(dim=1).max()) == K
        other = (ours - theirs).abs() > CLOSE * scale
        # the last feature of a token and the first that did not fire may change places
        last = torch.where(theirs > 0, theirs, torch.inf).min(dim=1, keepdim=True).values
        limit = last.expand_as(ours) * (1 + 1e-3)
        assert (torch.maximum(ours, theirs)[other] <= limit[other]).all()
        exchanged += int(other.any(dim=1).sum())
        tokens += len(ours)
    assert tokens > 1200
    assert exchanged < tokens / 200


def test_a_row_in_a_batch_is_the_row_alone(encoder: Encoder, windows: list[Window]) -> None:
    together = encoder.encode(windows, len(windows))
    features = together.features.toarray()
    for window in windows:
        alone = encoder.encode([window], len(windows))
        for one, other in (
            (alone.features.toarray(), features), (alone.residual, together.residual),
        ):  # fmt: skip
            size = np.abs(other).max()
            np.testing.assert_allclose(
                one[window.row], other[window.row], atol=CLOSE * size, rtol=0
            )


def test_the_reconstruction_keeps_the_models_loss(real_smollm2: Path) -> None:
    """Of 8 rows of the demo, which the SAE was not trained on; docs/models.md has the figure of more."""
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.recovered", str(real_smollm2), str(SAE),
            str(ROOT / "examples" / "advice.jsonl"), "--rows", "8",
        ],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 8
    assert found["loss"]["as it is"] < found["loss"]["reconstruction"] < found["loss"]["zero"]
    assert 0.9 < found["recovered"] < 1
