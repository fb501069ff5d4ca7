from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saefilter.encode.sae import Sae, load_sae
from saefilter.errors import SaefilterError

D_MODEL, D_SAE = 24, 96


def write_sae(folder: Path, architecture: str, **config: object) -> Path:
    """An SAE with random weights, written by sae-lens itself."""
    from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    kinds = {
        "standard": (StandardSAE, StandardSAEConfig),
        "topk": (TopKSAE, TopKSAEConfig),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig),
        "gated": (GatedSAE, GatedSAEConfig),
    }
    sae_class, config_class = kinds[architecture]
    sae = sae_class(config_class(d_in=D_MODEL, d_sae=D_SAE, **config))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sae.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.data = values.abs() if name == "threshold" else values
    sae.save_model(folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("standard", {}),
        ("standard", {"normalize_activations": "layer_norm"}),
        ("standard", {"normalize_activations": "constant_norm_rescale"}),
        ("topk", {"k": 7}),
        ("topk", {"k": 7, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False}),
        ("jumprelu", {}),
        ("gated", {}),
    ],
)
def test_encode_equals_sae_lens(
    tmp_path: Path, architecture: str, config: dict[str, object]
) -> None:
    from sae_lens import SAE

    folder = write_sae(tmp_path / "sae", architecture, **config)
    residual = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(1)) * 3
    theirs = SAE.load_from_disk(folder)
    with torch.no_grad():
        expected = theirs.encode(residual)
        if not config.get("rescale_acts_by_decoder_norm"):
            expected = expected * theirs.W_dec.norm(dim=-1)
    assert (expected > 0).sum() > 50
    loaded = load_sae(folder)
    for ours in (loaded, loaded.to(torch.device("cpu"))):  # as read, and arranged for the CPU
        active = ours.encode(residual)
        dense = torch.zeros(50, D_SAE)
        dense[active.token, active.feature] = active.value
        assert (active.value > 0).all()
        torch.testing.assert_close(dense, expected, atol=1e-4, rtol=1e-5)


def test_fingerprint_is_of_the_decoder(tmp_path: Path) -> None:
    folder = write_sae(tmp_path / "sae", "topk", k=3)
    first = load_sae(folder)
    weights = {name: getattr(first, low) for name, low in FIELDS.items()}
    weights["W_dec"] = first.w_dec * 1.001
    save_file(weights, folder / "sae_weights.safetensors")
    assert load_sae(folder).fingerprint != first.fingerprint


FIELDS = {"W_enc": "w_enc", "b_enc": "b_enc", "W_dec": "w_dec", "b_dec": "b_dec"}


def test_directions_are_unit_rows(tmp_path: Path) -> None:
    sae: Sae = load_sae(write_sae(tmp_path / "sae", "standard"))
    np.testing.assert_allclose(np.linalg.norm(sae.directions(), axis=1), 1, rtol=1e-5)


def test_an_unknown_architecture_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    folder = write_sae(tmp_path / "sae", "topk", k=3)
    config = json.loads((folder / "cfg.json").read_text())
    for name, message in (
        ("temporal", "'temporal' is not supp"),
        ("transcoder", "reads one place"),
    ):
        (folder / "cfg.json").write_text(json.dumps({**config, "architecture": name}))
        with pytest.raises(SaefilterError, match=message):
            load_sae(folder)
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(SaefilterError, match="not an SAE in sae-lens's format"):
        load_sae(folder)
