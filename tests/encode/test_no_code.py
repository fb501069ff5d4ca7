"""Models, SAEs and datasets are data: none of their code runs, and no pickle but of tensors loads."""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save_model, small_tokenizer
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM

from saefilter.encode.causal import load_causal_model
from saefilter.encode.checkpoint import truncated_checkpoint
from saefilter.encode.model import load_config, load_truncated_model
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.render import load_tokenizer

SOURCE = Path(__file__).parents[2] / "saefilter"
CODE = "from pathlib import Path\nPath({canary!r}).write_text('ran')\n"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def config(**changes: Any) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=300, **changes,
    )  # fmt: skip


def causal(folder: Path) -> Any:
    return load_causal_model(
        str(folder), 1, revision=None, dtype="fp32", device=torch.device("cpu")
    )


def add_code(folder: Path, canary: Path) -> None:
    """Code of its own in a model's folder, and the configuration that asks for it."""
    (folder / "modeling_evil.py").write_text(CODE.format(canary=str(canary)))
    for name, auto_map in (
        ("config.json", {"AutoConfig": "modeling_evil.C", "AutoModel": "modeling_evil.M",
                         "AutoModelForCausalLM": "modeling_evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["modeling_evil.T", "modeling_evil.T"]}),
    ):  # fmt: skip
        path = folder / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**found, "auto_map": auto_map}))


@pytest.mark.parametrize("known", [True, False])
def test_a_models_own_code_is_neither_run_nor_asked_about(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    def ask(*_: Any) -> str:
        pytest.fail("it asked whether to run code")

    monkeypatch.setattr("builtins.input", ask)
    folder = tmp_path / "model"
    save_model(config(), folder, small_tokenizer(), model_class=LlamaForCausalLM)
    add_code(folder, canary)
    if not known:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "evil"}))
    for load in (
        lambda: load_config(str(folder)),
        lambda: load_tokenizer(str(folder)),
        lambda: load_truncated_model(str(folder), 1),
        lambda: causal(folder),
    ):
        with contextlib.suppress(SaefilterError):  # what needs the code is refused
            load()
        assert not canary.exists()


class Evil:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def test_a_models_pickle_is_not_loaded(tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "model"
    save_model(config(), folder, small_tokenizer(), model_class=LlamaForCausalLM)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(canary)))
    with pytest.raises(SaefilterError, match="no weights in safetensors"):
        load_truncated_model(str(folder), 1)
    with pytest.raises(SaefilterError, match="cannot be loaded"):
        causal(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    "shard", ["../../outside.safetensors", "/etc/passwd", "a/b.safetensors", "evil.bin", "..", 7]
)
def test_an_index_names_files_of_its_own_folder_only(tmp_path: Path, shard: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(b"")
    (folder / "evil.bin").write_bytes(pickle.dumps(Evil(tmp_path / "canary")))
    index = {"weight_map": {"model.layers.0.x": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with (
        pytest.raises(SaefilterError, match=r"where a .safetensors file beside it was expected"),
        truncated_checkpoint(str(folder), None, 1, text_only=False),
    ):
        pass


def test_a_datasets_script_does_not_run(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    for name in ("name.py", "dataset.py", "__init__.py"):
        (folder / name).write_text(CODE.format(canary=str(canary)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_TRUST_REMOTE_CODE", "1")
    with pytest.raises(SaefilterError):
        open_input("org/name")
    with pytest.raises(SaefilterError):
        open_input("org/name:train")
    assert not canary.exists()


def test_nothing_in_the_source_trusts_code_or_pickles() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in (
            "trust_remote_code=True", "weights_only=False", "allow_pickle", "pickle.load", "eval(",
            "exec(", "joblib", "yaml.load", "torch.load", "shell=True", "os.system",
        ):  # fmt: skip
            found = text.replace(".eval(", "").count(word)
            assert not found, f"{path.name}: {word}"


def test_bert_is_still_loaded(tmp_path: Path) -> None:
    """The embedded preset's kind, with the options that refuse code."""
    small = BertConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        vocab_size=300,
    )  # fmt: skip
    save_model(small, tmp_path / "model", small_tokenizer())
    assert load_truncated_model(str(tmp_path / "model"), 1).d_model == 16
