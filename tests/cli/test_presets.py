"""Every preset from end to end, on tiny random checkpoints and SAE files in the hub's cache."""

from __future__ import annotations

import json
import random as rng
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sae_files
import transformers as hf
from checkpoints import chat_tokenizer, into_cache, save_model, small_tokenizer
from conftest import chat
from typer.testing import CliRunner

from saefilter.artifacts.scores import Scores
from saefilter.cli import app, commands
from saefilter.config import cache_folder
from saefilter.encode.presets import load_preset, preset_names, resolve
from saefilter.encode.sae_source import find_sae
from saefilter.toxic.load import load_toxic_set

commands()
TINY = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32}
BOS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}


def decoder(config_class: Any, layers: int, d_model: int = 32, **more: Any) -> Any:
    return config_class(hidden_size=d_model, num_hidden_layers=layers, **TINY, **more)


def gemma3(layers: int) -> Any:
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": 32, "image_size": 16, "patch_size": 8}  # fmt: skip
    text = decoder(hf.Gemma3TextConfig, layers).to_dict()
    return hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)


PRESETS: list[Any] = [
    pytest.param(  # its loader wants the full shape
        "gemma-2-2b", lambda: decoder(hf.Gemma2Config, 15, 2304), hf.Gemma2ForCausalLM, None,
        sae_files.gemma_scope, {}, marks=pytest.mark.slow),
    ("llama-3.1-8b", lambda: decoder(hf.LlamaConfig, 18), hf.LlamaForCausalLM, None,
     sae_files.llama_scope, {}),
    ("llama-3.1-8b-instruct", lambda: decoder(hf.LlamaConfig, 18), hf.LlamaForCausalLM,
     "llama-3.1", sae_files.dictionary_learning,
     {"layer": 15, "model": "meta-llama/Llama-3.1-8B-Instruct"}),
    ("gpt-oss-20b",
     lambda: decoder(hf.GptOssConfig, 14, num_local_experts=4, num_experts_per_tok=2),
     hf.GptOssForCausalLM, "gpt-oss", sae_files.dictionary_learning,
     {"layer": 11, "model": "openai/gpt-oss-20b"}),
    pytest.param(
        "qwen2.5-7b-instruct", lambda: decoder(hf.Qwen2Config, 18), hf.Qwen2ForCausalLM, "qwen2.5",
        sae_files.dictionary_learning, {"layer": 15, "model": "Qwen/Qwen2.5-7B-Instruct"},
        marks=pytest.mark.slow),
    ("gemma-3-4b-it", lambda: gemma3(20), hf.Gemma3ForConditionalGeneration, "gemma-3",
     sae_files.gemma_scope_2, {"model": "gemma-v3-4b-it", "layer": 17}),
    pytest.param(
        "qwen3-1.7b", lambda: decoder(hf.Qwen3Config, 16, 2048), hf.Qwen3ForCausalLM, None,
        sae_files.qwen_scope, {}, marks=pytest.mark.slow),
    pytest.param(
        "llama-3.1-8b-instruct-goodfire", lambda: decoder(hf.LlamaConfig, 21, 4096),
        hf.LlamaForCausalLM, "llama-3.1", sae_files.goodfire, {}, marks=pytest.mark.slow),
]  # fmt: skip


def install(tmp_path: Path, name: str, config: Any, model_class: Any, family: str | None,
            write: Any, options: dict[str, Any]) -> None:  # fmt: skip
    """Put a preset's model and SAE into the cache, under their own names."""
    preset = load_preset(name)
    tokenizer = chat_tokenizer(family) if family else small_tokenizer(**BOS)
    save_model(config, tmp_path / "model", tokenizer, model_class=model_class)
    into_cache(tmp_path / "model", preset.model)
    release, _, sae_id = preset.sae.partition("/")
    sae_files.cached_sae(tmp_path / "sae", release, sae_id, write, **options)


def contrast(alphabet: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose answers are words over an alphabet."""
    draw = rng.Random(seed)
    return [
        chat(
            f"Say something, {seed}, {i}.",
            " ".join("".join(draw.choices(alphabet, k=5)) for _ in range(6)),
        )
        for i in range(n)
    ]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("name", "config", "model_class", "family", "write", "options"), PRESETS)
def test_curate_score_and_filter(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jsonl: Callable[..., Path],
    name: str,
    config: Callable[[], Any],
    model_class: Any,
    family: str | None,
    write: Any,
    options: dict[str, Any],
) -> None:
    install(tmp_path, name, config(), model_class, family, write, options)
    monkeypatch.chdir(tmp_path)
    toxic = jsonl(contrast("vwxyz", 40, 1), "toxic.jsonl")
    benign = jsonl(contrast("abcde", 40, 2), "benign.jsonl")
    mixed = jsonl([*contrast("abcde", 16, 3), *contrast("vwxyz", 4, 4)], "data.jsonl")
    said = run("doctor", "--preset", name, mixed)
    assert "Ready." in said
    # features of random SAEs are dense, and those of the large fake one repeat
    run("features", "curate", "--toxic", toxic, "--benign", benign, "--preset", name, "-o",
        "set.json", "--device", "cpu", "--max-density", 1, "--prune-cosine", 1,
        "--penalty", 0.003, 0.03)  # fmt: skip
    said = run("features", "steer", "set.json", "--preset", name, "--top", 2, "--controls", 5,
               "--rows", 6, "--toxic", toxic, "--benign", benign)  # fmt: skip
    assert "as it is" in said
    assert sum(one.steering is not None for one in load_toxic_set("set.json").features) == 2
    said = run("score", "data.jsonl", "--preset", name, "--toxic-set", "set.json")
    assert "Preset " + name in said
    assert "device cpu: no GPU was found" in said or "cuda" in said
    scores = pq.read_table("data.scores.parquet")
    distance = scores["distance"].to_numpy()
    assert sorted(distance.argsort()[:4]) == [16, 17, 18, 19]
    made = Scores.open(Path("data.scores.parquet")).provenance
    assert (made.model, made.hook) == (load_preset(name).model, load_preset(name).hook)
    run("filter", "--drop-count", 4)
    assert len(Path("data.filtered.jsonl").read_text().splitlines()) == 16
    dropped = map(json.loads, Path("data.filtered.dropped.jsonl").read_text().splitlines())
    assert [row["saefilter_row_id"] for row in dropped] == [16, 17, 18, 19]


def test_doctor_tries_a_preset_that_has_no_toxic_set_yet(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    name, config, model_class, family, write, options = PRESETS[1]
    install(tmp_path, name, config(), model_class, family, write, options)
    find_sae(load_preset(name).sae)  # one that is not converted yet is not tried
    said = run("doctor", "--preset", name, jsonl(contrast("abcde", 20, 3)))
    assert "(measured: 20 of its rows, scored on this machine's " in said
    assert "the first run makes one, about " in said


@pytest.mark.slow  # 1,498 texts, curated six times
def test_the_first_score_of_a_preset_makes_a_toxic_set_of_the_bundled_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path]
) -> None:
    name, config, model_class, family, write, options = PRESETS[4].values
    install(tmp_path, name, config(), model_class, family, write, options)
    monkeypatch.chdir(tmp_path)
    jsonl([*contrast("abcde", 16, 3), *contrast("vwxyz", 4, 4)])
    said = run("score", "data.jsonl", "--preset", name)
    assert "making one of the bundled contrast data" in said
    assert "bundled pairs alone; on topics left out it" in said
    first = pq.read_table("data.scores.parquet")["distance"]
    again = run("score", "data.jsonl", "--preset", name, "--overwrite")
    assert "made of the bundled contrast data" in again
    assert pq.read_table("data.scores.parquet")["distance"] == first
    (kept,) = (cache_folder() / "toxic-sets").glob(f"{name}-*.json")
    run("score", "data.jsonl", "--preset", name, "--overwrite", "--toxic-set", kept)


def test_every_preset_is_in_the_registry_and_where_it_says() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    for name in preset_names():
        preset = load_preset(name)
        if preset.sae.startswith("shipped:"):
            continue
        release, _, sae_id = preset.sae.partition("/")
        assert sae_id in releases[release].saes_map, name
        theirs = releases[release].model.rsplit("/", 1)[-1].lower()
        assert preset.model.rsplit("/", 1)[-1].lower().removesuffix("-v0.1") == theirs, name
        number = "".join(c if c.isdigit() else " " for c in sae_id).split()[0]
        where = "pre" if sae_id.endswith("pre") else "post"
        assert preset.hook == f"blocks.{number}.hook_resid_{where}", name


def test_every_layer_that_a_presets_release_has_goes_by_its_number() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    layers = {}
    for name in preset_names():
        preset = load_preset(name)
        if preset.sae.startswith("shipped:"):
            continue
        release, _, own = preset.sae.partition("/")
        shape = re.sub(r"\d+", "#", own, count=1)
        alike = [
            one for one in releases[release].saes_map if re.sub(r"\d+", "#", one, count=1) == shape
        ]
        layers[name] = sorted(int(re.search(r"\d+", one)[0]) for one in alike)
        for layer in layers[name]:
            at = resolve(name, None, None, None, layer)
            assert at.sae.removeprefix(f"{release}/") in releases[release].saes_map
            assert f"blocks.{layer}." in (at.hook or "")
            assert (at == preset) is (own == at.sae.removeprefix(f"{release}/"))
    assert layers["gpt-oss-20b"] == [3, 7, 11, 15, 19, 23]
    assert layers["llama-3.1-8b"] == list(range(32))
    assert layers["mistral-7b"] == [8, 16, 24]


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    missing = CliRunner().invoke(app, ["doctor", "--preset", "gpt-oss-20b", "--layer", "16"])
    assert "has no SAE 'resid_post_layer_16_trainer_0'" in missing.output
    assert "resid_post_layer_15_trainer_0" in missing.output
    for given in (["--preset", "minilm"], ["--model", "a/b", "--sae", "c/d/e"]):
        refused = CliRunner().invoke(app, ["doctor", *given, "--layer", "3"])
        assert "--layer has no effect" in str(refused.exception)


def test_presets_are_listed_and_shown() -> None:
    listed = run("presets")
    assert all(name in listed for name in preset_names())
    shown = run("presets", "show", "gemma-2-9b-it")
    assert "gemma-scope-9b-it-res-canonical/layer_20/width_16k/canonical" in shown
    assert json.loads(run("presets", "show", "gpt-oss-20b", "--json"))["d_model"] == 2880


def test_tokens_shows_what_is_scored(jsonl: Callable[..., Path]) -> None:
    data = jsonl([chat("Who?", "Me.\x1b[31m")])
    said = run("tokens", data)
    assert "[me]" in said
    assert "\x1b" not in said
    shown = json.loads(run("tokens", data, "--json").partition("{")[1] + run(
        "tokens", data, "--json").partition("{")[2])  # fmt: skip
    assert [t["kind"] for t in shown["windows"][0]].count("special") == 2
    assert shown["n_scored"] == sum(t["kind"] == "scored" for t in shown["windows"][0])


def test_a_presets_model_may_lie_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here"
    folder.mkdir()
    at = resolve("smollm2-135m", str(folder), None)
    preset = load_preset("smollm2-135m")
    assert (at.model, at.sae, at.toxic_set, at.name) == (
        str(folder), preset.sae, preset.toxic_set, preset.name
    )  # fmt: skip
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n')
    command = ["score", "d.jsonl", "--preset", "smollm2-135m", "--model"]
    refused = str(CliRunner().invoke(app, [*command, "no/such"]).exception)
    assert "no/such: --model beside --preset names the folder in which the preset's own" in refused
    refused = str(CliRunner().invoke(app, ["score", "d.jsonl", "--model", str(folder)]).exception)
    assert "Give both; or a --preset, by itself or with --model and the folder" in refused
    said = " ".join(CliRunner().invoke(app, [*command, str(folder)]).stderr.split())
    assert "Preset smollm2-135m (--preset), its model from" in said
