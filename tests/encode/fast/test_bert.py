"""BERT restated: held to transformers' own on random checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from checkpoints import random_model, residual_by_hook, save_model

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.fast.bert import Bert, bert_config
from saefilter.encode.model import load_truncated_model
from saefilter.errors import SaefilterError


def config(**changes: Any) -> hf.BertConfig:
    return hf.BertConfig(
        vocab_size=64, hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=40, **changes,
    )  # fmt: skip


def batch() -> PaddedBatch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 60, (3, 11), generator=generator)
    attention = torch.ones_like(ids)
    attention[1, 7:] = 0
    scored = attention.bool()
    scored[:, :3] = False
    return PaddedBatch(ids, attention, scored)


def test_residuals_are_those_of_transformers(tmp_path: Path) -> None:
    whole = save_model(config(), tmp_path)
    found = bert_config(str(tmp_path))
    assert found is not None
    ours = Bert.load(str(tmp_path), found, 3, revision=None, dtype=torch.float32)
    padded = batch()
    expected = residual_by_hook(whole, 3, padded.ids, padded.attention)[padded.scored]
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(ours.scored_residuals(padded), expected, atol=1e-5, rtol=1e-5)
    assert ours.n_parameters == load_truncated_model(str(tmp_path), 3).n_parameters


def test_a_checkpoint_with_a_head_has_other_names(tmp_path: Path) -> None:
    whole = save_model(config(), tmp_path, model_class=hf.BertForMaskedLM)
    found = bert_config(str(tmp_path))
    assert found is not None
    ours = Bert.load(str(tmp_path), found, 2, revision=None, dtype=torch.float32)
    padded = batch()
    expected = residual_by_hook(whole.bert, 2, padded.ids, padded.attention)[padded.scored]
    torch.testing.assert_close(ours.scored_residuals(padded), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"model_type": "roberta"},
        {"quantization_config": {"bits": 4}},
    ],
)
def test_what_computes_otherwise_goes_through_transformers(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    fields = {**config().to_dict(), **change}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert bert_config(str(tmp_path)) is None


def test_missing_layers_and_tensors_are_clear_errors(tmp_path: Path) -> None:
    model = random_model(config())
    model.save_pretrained(tmp_path)
    found = bert_config(str(tmp_path))
    assert found is not None
    with pytest.raises(SaefilterError, match=r"the hook is after layer 5 and .* has 4 layers"):
        Bert.load(str(tmp_path), found, 5, revision=None, dtype=torch.float32)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SaefilterError, match=r"lacks the tensor 'encoder.layer.1.output.dense.bi"):
        Bert.load(str(tmp_path), found, 3, revision=None, dtype=torch.float32)
