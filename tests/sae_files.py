"""SAE files with small random weights in the layout of each public collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import into_cache, write_json
from safetensors.torch import save_file

D_MODEL, D_SAE = 32, 96


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def tiled(rows: int, columns: int, seed: int) -> np.ndarray:
    """A large matrix that repeats a small random one, so that it compresses to little."""
    block = random(64, 64, seed=seed).numpy()
    return np.tile(block, (rows // 64, columns // 64)).astype(np.float32)


def expanded(*shape: int, seed: int) -> torch.Tensor:
    """A large matrix whose rows are windows on one random vector, and that takes its space."""
    return random(sum(shape), seed=seed).as_strided(shape, (1, 1))


def registry(release: str, sae_id: str) -> tuple[str, str]:
    """Repository and path of an SAE, from sae-lens's registry."""
    from sae_lens.loading.pretrained_saes_directory import get_repo_id_and_folder_name

    return get_repo_id_and_folder_name(release, sae_id)


def gemma_scope(folder: Path, path: str, *, d_model: int = 2304, d_sae: int = 16384) -> None:
    """Gemma Scope: params.npz, JumpReLU."""
    target = folder / path
    target.mkdir(parents=True)
    threshold = np.full(d_sae, 1e6, np.float32)
    threshold[:64] = 0.5  # the others are copies of these
    np.savez_compressed(
        target / "params.npz",
        W_enc=tiled(d_model, d_sae, 1),
        W_dec=tiled(d_sae, d_model, 2),
        b_enc=np.tile(random(64, seed=3).numpy(), d_sae // 64),
        b_dec=np.zeros(d_model, np.float32),
        threshold=threshold,
    )


def llama_scope(folder: Path, path: str, layer: int = 15) -> None:
    """Llama Scope: hyperparams.json and checkpoints/final.safetensors, one JumpReLU threshold."""
    write_json(
        folder / path / "hyperparams.json",
        {
            "d_model": D_MODEL,
            "d_sae": D_SAE,
            "jump_relu_threshold": 0.4,
            "dataset_average_activation_norm": {"in": 15.0, "out": 15.0},
            "hook_point_in": f"blocks.{layer}.hook_resid_post",
        },
    )
    checkpoint = folder / path / "checkpoints" / "final.safetensors"
    checkpoint.parent.mkdir(parents=True)
    save_file(
        {
            "encoder.weight": random(D_SAE, D_MODEL, seed=1).bfloat16(),
            "encoder.bias": random(D_SAE, seed=2).bfloat16(),
            "decoder.weight": random(D_MODEL, D_SAE, seed=3).bfloat16(),
            "decoder.bias": random(D_MODEL, seed=4).bfloat16(),
        },
        checkpoint,
    )


def dictionary_learning(
    folder: Path, path: str, layer: int, model: str, dict_class: str = "BatchTopKSAE"
) -> None:
    """dictionary_learning: config.json and a pickled ae.pt of tensors."""
    trainer: dict[str, Any] = {
        "dict_class": dict_class,
        "layer": layer,
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "lm_name": model,
        "k": 8,
    }
    write_json(folder / path / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 1024}})
    weights = {
        "encoder.weight": random(D_SAE, D_MODEL, seed=1),
        "decoder.weight": random(D_MODEL, D_SAE, seed=3),
    }
    if dict_class == "GatedAutoEncoder":
        weights["decoder_bias"] = random(D_MODEL, seed=4)
        weights["gate_bias"] = random(D_SAE, seed=5)
        weights["mag_bias"] = random(D_SAE, seed=6)
        weights["r_mag"] = random(D_SAE, seed=7)
    else:
        weights["encoder.bias"] = random(D_SAE, seed=2)
        weights["b_dec"] = random(D_MODEL, seed=4)
        weights["threshold"] = torch.tensor(0.6)
        weights["k"] = torch.tensor(8)
    torch.save(weights, folder / path / "ae.pt")


def goodfire(folder: Path, path: str, *, d_model: int = 4096, d_sae: int = 65536) -> None:
    """Goodfire: one pickled state dict, ReLU."""
    weights = {
        "encoder_linear.weight": expanded(d_sae, d_model, seed=1),
        "encoder_linear.bias": random(d_sae, seed=2) - 1.0,
        "decoder_linear.weight": expanded(d_model, d_sae, seed=3),
        "decoder_linear.bias": random(d_model, seed=4),
    }
    torch.save(weights, folder / path)


def gemma_scope_2(folder: Path, path: str, model: str, layer: int) -> None:
    """Gemma Scope 2: config.json and params.safetensors, JumpReLU."""
    write_json(
        folder / path / "config.json",
        {
            "architecture": "jump_relu",
            "model_name": model,
            "hf_hook_point_in": f"model.layers.{layer}.output",
        },
    )
    save_file(
        {
            "w_enc": random(D_MODEL, D_SAE, seed=1),
            "w_dec": random(D_SAE, D_MODEL, seed=2),
            "b_enc": random(D_SAE, seed=3),
            "b_dec": random(D_MODEL, seed=4),
            "threshold": random(D_SAE, seed=5).abs(),
        },
        folder / path / "params.safetensors",
    )


def qwen_scope(folder: Path, path: str, *, d_model: int = 2048, d_sae: int = 32768) -> None:
    """Qwen Scope: one pickled dict per layer, TopK."""
    weights = {
        "W_enc": expanded(d_sae, d_model, seed=1),
        "W_dec": expanded(d_model, d_sae, seed=3),
        "b_enc": random(d_sae, seed=2),
        "b_dec": random(d_model, seed=4),
    }
    torch.save(weights, folder / path)


def sparsify(folder: Path, path: str) -> None:
    """sparsify: cfg.json and sae.safetensors, TopK, the decoder as `W_dec` `[d_sae, d_in]`."""
    write_json(
        folder / path / "cfg.json",
        {"d_in": D_MODEL, "num_latents": D_SAE, "expansion_factor": 3, "k": 8},
    )
    (folder / "config.json").write_text(json.dumps({"model": "tiny/llama"}))
    save_file(
        {
            "encoder.weight": random(D_SAE, D_MODEL, seed=1),
            "encoder.bias": random(D_SAE, seed=2),
            "decoder.weight": random(D_MODEL, D_SAE, seed=3),
            "b_dec": random(D_MODEL, seed=4),
        },
        folder / path / "sae.safetensors",
    )


def cached_sae(tmp: Path, release: str, sae_id: str, write: Any, **options: Any) -> str:
    """Write an SAE where the registry says it is, in the hub's cache; returns its reference."""
    repository, path = registry(release, sae_id)
    folder = tmp / repository.replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, path, **options)
    into_cache(folder, repository)
    return f"{release}/{sae_id}"
