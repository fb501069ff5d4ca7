"""SAEs of every public collection, through sae-lens's own loaders over an offline cache."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sae_files
import torch
from checkpoints import write_json
from sae_files import D_MODEL, D_SAE, cached_sae

from saefilter.config import cache_folder
from saefilter.encode import sae_source
from saefilter.encode.checks import hook_layers, l0_warning
from saefilter.encode.presets import load_preset, preset_names
from saefilter.encode.sae import Sae, load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError

SMALL: list[tuple[str, str, Any, dict[str, Any], int]] = [
    ("llama_scope_lxr_8x", "l15r_8x", sae_files.llama_scope, {}, 16),
    (
        "llama-3.1-8b-instruct-andyrdt",
        "resid_post_layer_15_trainer_1",
        sae_files.dictionary_learning,
        {"layer": 15, "model": "meta-llama/Llama-3.1-8B-Instruct"},
        16,
    ),
    (
        "gpt-oss-20b-andyrdt",
        "resid_post_layer_11_trainer_0",
        sae_files.dictionary_learning,
        {"layer": 11, "model": "openai/gpt-oss-20b"},
        12,
    ),
    (
        "qwen2.5-7b-instruct-andyrdt",
        "resid_post_layer_15_trainer_1",
        sae_files.dictionary_learning,
        {"layer": 15, "model": "Qwen/Qwen2.5-7B-Instruct", "dict_class": "GatedAutoEncoder"},
        16,
    ),
    (
        "gemma-scope-2-4b-it-res",
        "layer_17_width_16k_l0_medium",
        sae_files.gemma_scope_2,
        {"model": "gemma-v3-4b-it", "layer": 17},
        18,
    ),
]
LARGE: list[tuple[str, str, Any, dict[str, Any], int]] = [
    (
        "gemma-scope-2b-pt-res-canonical",
        "layer_12/width_16k/canonical",
        sae_files.gemma_scope,
        {},
        13,
    ),
    ("qwen-scope-3-1.7b-base-w32k-l50", "layer14", sae_files.qwen_scope, {}, 15),
    pytest.param(
        "goodfire-llama-3.1-8b-instruct",
        "layer_19",
        sae_files.goodfire,
        {},
        20,
        marks=pytest.mark.slow,  # its loader wants 65,536 x 4,096: 4 GB of memory
    ),
]  # type: ignore[list-item]


def dense(sae: Sae, residual: torch.Tensor) -> torch.Tensor:
    active = sae.encode(residual)
    result = torch.zeros(len(residual), sae.d_sae)
    result[active.token, active.feature] = active.value
    return result


@pytest.mark.parametrize(("release", "sae_id", "write", "options", "layers"), [*SMALL, *LARGE])
def test_activations_equal_sae_lens(
    tmp_path: Path, release: str, sae_id: str, write: Any, options: dict[str, Any], layers: int
) -> None:
    from sae_lens import SAE

    reference = cached_sae(tmp_path, release, sae_id, write, **options)
    with sae_source._shapes_from_cached_files():  # the network, for Gemma Scope 2
        theirs = SAE.from_pretrained(release, sae_id)
    ours = load_sae(find_sae(reference))
    residual = sae_files.random(20, ours.d_model, seed=9) * 4
    with torch.no_grad():
        expected = theirs.encode(residual) * theirs.W_dec.norm(dim=-1)
    assert 20 < (expected > 0).sum() < 0.95 * expected.numel()
    # what rounding leaves grows with the decoder's rows, as the activations do
    atol = 1e-4 * max(1.0, float(theirs.W_dec.norm(dim=-1).max()))
    torch.testing.assert_close(dense(ours, residual), expected, atol=atol, rtol=1e-4)
    torch.testing.assert_close(ours.w_dec, theirs.W_dec.data.float())
    assert hook_layers(ours.hook) == layers


def test_a_converted_sae_needs_neither_sae_lens_nor_its_source(tmp_path: Path) -> None:
    release, sae_id, write, options, _ = SMALL[1]
    reference = cached_sae(tmp_path, release, sae_id, write, **options)
    first = load_sae(find_sae(reference))
    script = (
        "import sys; from saefilter.encode.sae import load_sae\n"
        "from saefilter.encode.sae_source import find_sae\n"
        f"sae = load_sae(find_sae({reference!r}))\n"
        "print(sae.fingerprint, 'sae_lens' in sys.modules)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "empty")}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [first.fingerprint, "False"]


def test_a_new_commit_on_the_hub_is_converted_anew(tmp_path: Path) -> None:
    release, sae_id, write, options, _ = SMALL[1]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    reference = cached_sae(tmp_path / "a", release, sae_id, write, **options)
    first = load_sae(find_sae(reference))
    other = {**options, "dict_class": "GatedAutoEncoder"}
    second = load_sae(find_sae(cached_sae(tmp_path / "b", release, sae_id, write, **other)))
    assert (first.architecture, second.architecture) == ("jumprelu", "gated")


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (SMALL[0], 50),  # the registry's
        (SMALL[1], 8),  # dictionary_learning's config.json: BatchTopK with k = 8
        (SMALL[2], 8),
        (SMALL[3], None),  # a gated one: whatever its configuration calls k is not how many fire
        (SMALL[4], 60),
        (LARGE[0], 82),  # layer_12/width_16k/average_l0_82, which canonical stands for
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_said_of_l0_is_found_and_held_against_what_fires(
    tmp_path: Path, which: Any, expected: float | None
) -> None:
    release, sae_id, write, options, _ = which
    sae = load_sae(find_sae(cached_sae(tmp_path, release, sae_id, write, **options)))
    assert sae.expected_l0 == expected
    assert sae.prepend_bos is True
    if expected is None:
        return
    assert l0_warning(expected * 1.5, sae.expected_l0) is None
    for measured in (expected * 10, expected / 10):
        assert f"says {expected:,.0f}" in str(l0_warning(measured, sae.expected_l0))


def test_where_nothing_is_said_of_l0_it_is_unknown_and_never_zero(tmp_path: Path) -> None:
    release, sae_id, _, options, _ = SMALL[1]

    def without_k(folder: Path, path: str, **options: Any) -> None:
        sae_files.dictionary_learning(folder, path, **options)
        config = json.loads((folder / path / "config.json").read_text())
        config["trainer"]["k"] = None
        write_json(folder / path / "config.json", config)

    folder = find_sae(cached_sae(tmp_path, release, sae_id, without_k, **options))
    assert load_sae(folder).expected_l0 is None
    config = json.loads((folder / "cfg.json").read_text())
    assert config["saefilter"]["expected_l0"] is None


def test_an_sae_of_the_cache_that_says_zero_is_converted_anew(tmp_path: Path) -> None:
    release, sae_id, write, options, _ = SMALL[1]
    reference = cached_sae(tmp_path, release, sae_id, write, **options)
    folder = find_sae(reference)
    config = json.loads((folder / "cfg.json").read_text())
    config["saefilter"]["expected_l0"] = 0.0
    write_json(folder / "cfg.json", config)
    assert load_sae(folder).expected_l0 is None
    assert load_sae(find_sae(reference)).expected_l0 == 8


def test_every_presets_l0_is_known_by_registry_path_or_configuration() -> None:
    """Most stand in sae-lens's registry; dictionary_learning's is in each SAE's own config.json. Of two
    releases nobody says it."""
    unsaid = {"llama-3-8b-instruct", "r1-distill-llama-8b"}
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    for name in preset_names():
        if load_preset(name).sae.startswith("shipped:"):
            continue
        release, _, sae_id = load_preset(name).sae.partition("/")
        said = releases[release].expected_l0[sae_id] or sae_source._l0_of(
            releases[release].repo_id, releases[release].saes_map[sae_id]
        )
        own_config = releases[release].conversion_func == "dictionary_learning_1"
        assert bool(said or own_config) is (name not in unsaid), name
    assert load_sae(find_sae(load_preset("minilm").sae)).expected_l0 == 64
    assert load_sae(find_sae(load_preset("smollm2-135m").sae)).expected_l0 == 48


def test_the_l0_of_a_batch_topk_sae_that_sae_lens_trained(tmp_path: Path) -> None:
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    config = BatchTopKTrainingSAEConfig(d_in=D_MODEL, d_sae=D_SAE, k=12)
    config.metadata.hook_name = "blocks.2.hook_resid_post"
    BatchTopKTrainingSAE(config).save_inference_model(tmp_path / "sae")
    sae = load_sae(tmp_path / "sae")
    assert (sae.architecture, sae.expected_l0) == ("jumprelu", 12)


def test_sparsify_folders_and_hub_repositories(tmp_path: Path) -> None:
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader

    sae_files.sparsify(tmp_path, "layers.3")
    ours = load_sae(find_sae(str(tmp_path / "layers.3")))
    theirs = SAE.load_from_disk(
        tmp_path / "layers.3", dtype="float32", converter=sparsify_disk_loader
    )
    residual = sae_files.random(20, D_MODEL, seed=9) * 4
    with torch.no_grad():
        expected = theirs.encode(residual) * theirs.W_dec.norm(dim=-1)
    # what rounding leaves grows with the decoder's rows, as the activations do
    atol = 1e-4 * max(1.0, float(theirs.W_dec.norm(dim=-1).max()))
    torch.testing.assert_close(dense(ours, residual), expected, atol=atol, rtol=1e-4)
    assert (ours.architecture, ours.k, hook_layers(ours.hook)) == ("topk", 8, 4)


def test_any_repository_in_sae_lens_format(tmp_path: Path) -> None:
    from checkpoints import into_cache
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    config = StandardSAEConfig(d_in=D_MODEL, d_sae=D_SAE)
    config.metadata.hook_name = "blocks.2.hook_resid_pre"
    config.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    StandardSAE(config).save_model(tmp_path / "some" / "place")
    into_cache(tmp_path, "somebody/saes")
    sae = load_sae(find_sae("somebody/saes/some/place"))
    assert hook_layers(sae.hook) == 2
    assert sae.center_input
    residual = sae_files.random(4, D_MODEL) + 5
    torch.testing.assert_close(
        sae.pre_activations(residual), sae.pre_activations(residual - 3), atol=1e-4, rtol=1e-4
    )


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    def write(folder: Path, path: str) -> None:
        sae_files.dictionary_learning(folder, path, 7, "Qwen/Qwen2.5-7B-Instruct")
        with open(folder / path / "ae.pt", "wb") as file:
            pickle.dump({"encoder.weight": Malicious()}, file)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    reference = cached_sae(
        tmp_path, "qwen2.5-7b-instruct-andyrdt", "resid_post_layer_7_trainer_1", write
    )
    with pytest.raises(SaefilterError, match="a pickle that holds more than tensors"):
        find_sae(reference)
    assert not (tmp_path / "ran").exists()
    assert not list(cache_folder().glob("saes/*resid_post_layer_7*"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gemma-scope-2b-pt-res-canonical/layer_99", "has no SAE 'layer_99'"),
        ("no-such-release/x", "neither a folder nor RELEASE/SAE_ID"),
        ("/no/such/folder/sae", "there is no folder /no/such/folder/sae"),
        ("./saes/of/mine", "there is no folder ./saes/of/mine"),
        ("../sae", "there is no folder ../sae"),
        ("nobody/nothing/x", "not on this machine and the hub cannot be reached"),
        ("gemma-scope-2-4b-pt-transcoders/transcoder/layer_17_width_16k_l0_big", "a transcoder reads"),
        ("gemma-scope-2b-pt-mlp-canonical/layer_0/width_16k/canonical", "not the residual stream"),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "not the residual stream"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, reference: str, message: str
) -> None:
    if "transcoders" in reference:
        path = "transcoder/layer_17_width_16k_l0_big"

        def write(folder: Path, where: str) -> None:
            sae_files.gemma_scope_2(folder, where, "gemma-v3-4b-pt", 17)

        cached_sae(tmp_path, "gemma-scope-2-4b-pt-transcoders", path, write)
    with pytest.raises(SaefilterError, match=message):
        find_sae(reference)


@pytest.mark.parametrize(
    ("hook", "layers"),
    [
        ("blocks.3.hook_resid_post", 4),
        ("blocks.3.hook_resid_pre", 3),
        ("model.layers.7", 8),
        ("model.layers.7.output", 8),
        ("transformer.h.2", 3),
    ],
)
def test_hooks(hook: str, layers: int) -> None:
    assert hook_layers(hook) == layers


@pytest.mark.parametrize("hook", ["", "blocks.0.hook_resid_pre", "blocks.3.attn.hook_z", "layers"])
def test_hooks_off_the_residual_stream_are_refused(hook: str) -> None:
    with pytest.raises(SaefilterError, match=r"the SAE reads"):
        hook_layers(hook)
