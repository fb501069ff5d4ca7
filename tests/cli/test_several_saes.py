"""`features curate` with several SAEs: the one that tells rows not seen apart best is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.cli.rounds import kept_reading
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.toxic.load import load_toxic_set

commands()
SHIPPED = Path(str(files("saefilter.encode") / "minilm_sae"))
BUNDLED = Path(str(files("saefilter.toxic") / "bundled"))


def curate(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["features", "curate", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """The shipped SAE, but for an encoder that reads next to nothing of the rows."""
    folder = tmp_path / "blind"
    shutil.copytree(SHIPPED, folder)
    weights = load_file(folder / "sae_weights.safetensors")
    torch.manual_seed(0)
    weights["W_enc"] = torch.randn_like(weights["W_enc"].float()).mul(0.001).half()
    weights["b_enc"] = torch.rand_like(weights["b_enc"].float()).half()
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


@pytest.mark.slow  # two SAEs, each curated six times
def test_of_several_saes_the_set_that_tells_best_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path], blind: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("toxic", "benign"):
        lines = (BUNDLED / f"{side}.jsonl").read_text().splitlines()[::10]
        jsonl([json.loads(line) for line in lines], f"{side}.jsonl")
    said = curate(
        "--toxic", "toxic.jsonl", "--benign", "benign.jsonl", "--group", "group",
        "--model", load_preset("minilm").model_path(), "--sae", blind, "--sae", SHIPPED,
        "--screen-p", 0.3, "--fdr", 0.9, "--penalty", 0.001, 0.1, "--max-density", 1, "-o", "s.json",
    )  # fmt: skip
    kept = load_toxic_set("s.json")
    assert kept.sae == str(SHIPPED)
    assert kept.calibration is not None
    assert kept.calibration.auroc is not None
    assert f"{SHIPPED} at blocks.3.hook_resid_post: AUROC on rows not seen " in said
    (line,) = [line for line in said.splitlines() if line.endswith("  kept")]
    assert line.startswith(str(SHIPPED))
    assert f"{kept.calibration.auroc[0]:.3f}" in line
    assert "The best of" in said or "No set: no feature separates" in said


def test_the_hint_reads_by_the_one_that_is_kept() -> None:
    kept = load_toxic_set("minilm")
    tried = {"preset": ["smollm2-135m"], "layer": [7, 11], "max_tokens": 64}
    words = ["--model", kept.model, "--sae", kept.sae, "--max-tokens", "64"]
    assert kept_reading(tried, kept) == words
    alone = kept_reading({"preset": ["gpt-oss-20b"], "layer": [7]}, kept)
    assert alone == ["--preset", "gpt-oss-20b", "--layer", "7"]


def test_only_one_of_presets_saes_and_layers_is_repeated() -> None:
    with pytest.raises(SaefilterError, match="--preset and --layer are both repeated"):
        curate(
            "--preset", "gpt-oss-20b", "--preset", "gemma-2-2b", "--layer", 3, "--layer", 7,
            "-o", "x.json",
        )  # fmt: skip
