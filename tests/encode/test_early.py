"""The model read after an earlier layer, against the whole model's hidden states."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from checkpoints import configs, random_model, residual_by_hook

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.early import EarlyModel
from saefilter.encode.model import load_truncated_model
from saefilter.errors import SaefilterError


def padded() -> PaddedBatch:
    ids = torch.arange(1, 25).view(2, 12)
    attention = torch.ones_like(ids)
    attention[1, 7:] = 0
    return PaddedBatch(ids, attention, attention.bool())


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "gpt2"])
def test_it_is_the_residual_of_that_layer_and_no_layer_above_is_run(
    family: str, tmp_path: Path
) -> None:
    config = configs()[family]
    whole = random_model(config)
    whole.save_pretrained(tmp_path)
    model = load_truncated_model(str(tmp_path), config.num_hidden_layers)
    batch, ran = padded(), []
    early = EarlyModel(model, 0)
    model.hook_module.register_forward_hook(lambda *_: ran.append(1))
    expected = residual_by_hook(whole, 1, batch.ids, batch.attention)[batch.scored]
    assert torch.allclose(early.scored_residuals(batch), expected, atol=1e-5)
    assert not ran
    at_hook = model.scored_residuals(batch)
    assert ran
    # in another thread the model is read up to its hook meanwhile
    with ThreadPoolExecutor(4) as pool:
        read = [pool.submit(one.scored_residuals, batch) for one in (early, model) * 10]
        for number, future in enumerate(read):
            assert torch.allclose(future.result(), (expected, at_hook)[number % 2], atol=1e-5)


def test_only_layers_before_the_hook_can_be_read(tmp_path: Path) -> None:
    config = configs()["llama"]
    random_model(config).save_pretrained(tmp_path)
    model = load_truncated_model(str(tmp_path), config.num_hidden_layers)
    for layer in (config.num_hidden_layers - 1, config.num_hidden_layers, -1):
        with pytest.raises(SaefilterError, match="before its hook"):
            EarlyModel(model, layer)
