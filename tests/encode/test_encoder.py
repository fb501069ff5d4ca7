"""A model and an SAE that belong together, or do not."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import configs, into_cache, save_model, small_tokenizer
from conftest import chat
from sae_files import random

from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.errors import SaefilterError
from saefilter.rows.formats import recognise
from saefilter.rows.rendered import RenderOptions

D_MODEL, D_SAE = 32, 64


def write_sae(
    folder: Path, *, d_model: int = D_MODEL, k: int | None = None, **metadata: Any
) -> str:
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    config = (
        StandardSAEConfig(d_in=d_model, d_sae=D_SAE)
        if k is None
        else TopKSAEConfig(d_in=d_model, d_sae=D_SAE, k=k)
    )
    metadata = {"hook_name": "blocks.2.hook_resid_post", **metadata}
    for name, value in metadata.items():
        setattr(config.metadata, name, value)
    sae = (StandardSAE if k is None else TopKSAE)(config)  # type: ignore[type-var]
    for seed, parameter in enumerate(sae.parameters()):
        parameter.data = random(*parameter.shape, seed=seed)
    sae.save_model(folder)
    return str(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    save_model(configs()["llama"], folder, tokenizer, model_class=hf.LlamaForCausalLM)
    into_cache(folder, "tiny/llama-instruct")
    return "tiny/llama-instruct"


def encode(encoder: Encoder, text: str = "Some words to read.") -> None:
    _, windows = encoder.renderer().render([recognise({"text": text})])
    encoder.encode(windows, 1)


def test_another_d_model_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    """The weights are no weights, which is noticed by whoever reads them."""
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    model = tmp_path / "model"
    save_model(configs()["llama"], model, tokenizer, model_class=hf.LlamaForCausalLM)
    for weights in model.glob("*.safetensors"):
        weights.write_bytes(b"nothing of the kind")
    with pytest.raises(SaefilterError, match=r"reads vectors of 48 and .*model has d_model"):
        Encoder(resolve(None, str(model), write_sae(tmp_path / "wide", d_model=48)))
    with pytest.raises(SaefilterError, match=r"cannot be (read|loaded)"):
        Encoder(resolve(None, str(model), write_sae(tmp_path / "right")))


def test_an_sae_of_another_model_is_warned_of(tmp_path: Path, llama: str) -> None:
    foreign = Encoder(resolve(None, llama, write_sae(tmp_path / "a", model_name="llama")))
    assert "trained on llama, not on tiny/llama-instruct" in foreign.warnings[0]
    own = Encoder(resolve(None, llama, write_sae(tmp_path / "b", model_name="llama-instruct")))
    assert own.warnings == []
    assert own.revision


def test_a_wrong_activation_function_is_noticed(tmp_path: Path, llama: str) -> None:
    folder = tmp_path / "sae"
    right = Encoder(resolve(None, llama, write_sae(folder, k=4)))
    encode(right)
    assert right.tally.l0 == pytest.approx(4, abs=0.01)
    assert right.l0_warning() is None
    config = json.loads((folder / "cfg.json").read_text())
    config["architecture"] = "standard"  # TopK weights read as plain ReLU
    config["saefilter"] = {"expected_l0": 4}
    (folder / "cfg.json").write_text(json.dumps(config))
    wrong = Encoder(resolve(None, llama, str(folder)))
    encode(wrong)
    assert wrong.tally.l0 > 12
    assert "fire per token and the SAE's configuration says 4" in str(wrong.l0_warning())


def test_the_rendering_asked_for_must_exist(tmp_path: Path, llama: str) -> None:
    encoder = Encoder(resolve(None, llama, write_sae(tmp_path)))
    assert encoder.renderer().name == "plain"
    with pytest.raises(SaefilterError, match="has no chat template"):
        encoder.renderer(rendering="chat")


def test_choices_are_explained(tmp_path: Path, llama: str) -> None:
    encoder = Encoder(resolve(None, llama, write_sae(tmp_path)))
    assert any("no GPU was found" in reason for reason in encoder.placement.reasons)
    assert any(reason.startswith(f"dtype {encoder.dtype}:") for reason in encoder.placement.reasons)
    chosen = Encoder(resolve(None, llama, write_sae(tmp_path)), device="cpu", dtype="bf16")
    assert chosen.placement.reasons == ()
    assert next(chosen.model.model.parameters()).dtype.itemsize == 2


def test_bitsandbytes_is_asked_for_where_it_is_missing(tmp_path: Path, llama: str) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(SaefilterError, match="--quantize 8bit needs bitsandbytes"):
        Encoder(resolve(None, llama, write_sae(tmp_path)), quantize="8bit")


class GatedHub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for a gated model and for one that is not there."""

    def do_HEAD(self) -> None:
        gated = "/gated/" in self.path
        self.send_response(401 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("X-Error-Message", "Access to model is restricted")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GatedHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gated/model", "the model gated/model is gated and you have no access. Accept its terms at"),
        ("nobody/nothing", "there is no model nobody/nothing on the hub, or it is private"),
    ],
)  # fmt: skip
def test_models_that_the_hub_refuses(tmp_path: Path, hub: str, model: str, message: str) -> None:
    sae = write_sae(tmp_path / "sae")
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "something"}\n')
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"}
    for command in (["score", str(data), "-o", str(tmp_path / "s.parquet")], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-m", "saefilter", *command, "--model", model, "--sae", sae,
             *(["--toxic-set", "minilm"] if command[0] == "score" else [])],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        said = " ".join((done.stdout + done.stderr).split())
        assert message.split(". ")[0] in said
        assert "Traceback" not in said
    assert not (tmp_path / "s.parquet").exists()


def test_a_question_asked_of_many_rows_is_computed_once(tmp_path: Path, llama: str) -> None:
    """Features, evidence and counts are those of rows that are computed each by itself."""
    encoder = Encoder(resolve(None, llama, write_sae(tmp_path)), device="cpu", dtype="fp32")
    answers = [f"{i} is the answer, and then {i * i}." for i in range(12)]
    asked = "Tell me everything that you know about the number, and what comes after it."
    rows = [recognise(chat(asked, answer)) for answer in answers]
    _, windows = encoder.renderer().render(rows)
    rising = np.linspace(0, 1, D_SAE, dtype=np.float32)
    weights = np.stack([rising, rising[::-1]], axis=1)
    shared = encoder.encode(windows, len(rows), token_weights=weights)
    assert shared.tally.saved > 11 * 30
    encoder.model.shares_prefixes = lambda: False
    alone = encoder.encode(windows, len(rows), token_weights=weights)
    assert alone.tally.saved == 0
    np.testing.assert_allclose(
        shared.features.toarray(), alone.features.toarray(), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(shared.n_tokens, alone.n_tokens)
    spans = [
        [[[(t.start, t.end) for t in tokens] for tokens in row] for row in found.top_tokens]
        for found in (shared, alone)
    ]
    assert spans[0] == spans[1]
    assert all(len(row) == 2 and row[0] != row[1] for row in spans[0])
    encoder.close()


def test_read_before_pools_the_states_that_predict_the_trained_tokens(
    tmp_path: Path, llama: str
) -> None:
    """Against the whole model's hidden states; shared prefixes end before what is read."""
    encoder = Encoder(resolve(None, llama, write_sae(tmp_path)), device="cpu", dtype="fp32")
    asked = "Tell me everything that you know about the number, and what comes after it."
    rows = [recognise(chat(asked, f"{i} it is.")) for i in range(12)]
    whole = hf.LlamaForCausalLM.from_pretrained(resolve(None, llama, "x/y").model_path()).eval()
    for read, shift in (("at", 0), ("before", 1)):
        _, windows = encoder.renderer(RenderOptions(read=read)).render(rows)
        encoded = encoder.encode(windows, len(rows))
        assert encoded.tally.saved > 11 * 30
        for i, window in enumerate(windows):
            with torch.inference_mode():
                out = whole(torch.tensor(window.ids[None]), output_hidden_states=True)
            states = out.hidden_states[3][0].numpy()  # after layers 0 to 2
            answer = len(f"{i} it is.")  # a token is a byte; the answer is the end
            mine = states[len(states) - answer - shift : len(states) - shift].mean(axis=0)
            np.testing.assert_allclose(encoded.residual[i], mine, rtol=1e-3, atol=1e-3)
    encoder.close()
