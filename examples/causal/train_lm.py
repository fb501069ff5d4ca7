"""Train a small causal language model from nothing, as an ordinary Hugging Face folder.

    python examples/causal/train_lm.py texts/*.jsonl -o tiny_lm
    python examples/train_sae.py texts/*.jsonl --model tiny_lm --layers 3 --d-sae 2048 -o tiny_sae
    saefilter features curate --model tiny_lm --sae tiny_sae -o set.json

A Llama of a few million parameters with a tokenizer of its own: it speaks no sense, but it is causal,
its features are real ones, and every command runs on it, on a laptop. Without files it learns from the
texts that saefilter brings along, which are few.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.read import Source

REPOSITORY = Path(__file__).parents[2]
OWN_TEXTS = [
    *sorted((REPOSITORY / "saefilter/toxic/bundled").glob("*.jsonl")),
    REPOSITORY / "examples/advice.jsonl",
]
CONTEXT = 128


def texts(files: list[Path]) -> Iterator[str]:
    """Every row as plain text, as saefilter renders it for base models."""
    for path in files:
        for row in Source.open(path).rows():
            try:
                conversation = recognise(row.data or {})
            except RowProblem:
                continue
            yield "\n\n".join(message.content for message in conversation)


def train_tokenizer(corpus: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts one BOS before every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<bos>", "<eos>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def train(
    tokenizer: PreTrainedTokenizerFast, corpus: list[str], args: argparse.Namespace
) -> LlamaForCausalLM:
    """Next-token prediction on the texts, packed into rows of CONTEXT tokens."""
    torch.manual_seed(args.seed)
    encoded = tokenizer(corpus, add_special_tokens=False)["input_ids"]
    stream = [token for ids in encoded for token in [tokenizer.bos_token_id, *ids]]
    rows = torch.tensor(stream[: len(stream) // CONTEXT * CONTEXT]).view(-1, CONTEXT)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=args.d_model, num_hidden_layers=args.layers,
            num_attention_heads=args.d_model // 32, num_key_value_heads=args.d_model // 32,
            head_dim=32, intermediate_size=3 * args.d_model, max_position_embeddings=512,
            tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    started, step, losses = time.perf_counter(), 0, []
    while (spent := time.perf_counter() - started) < 60 * args.minutes:
        # one cosine over the time that is given
        rate = args.lr * (0.05 + 0.95 * (1 + math.cos(math.pi * spent / (60 * args.minutes))) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50)
        batch = rows[torch.randint(len(rows), (args.batch,))]
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            print(f"  {spent:5.0f} s, step {step}: loss {np.mean(losses[-100:]):.3f}", flush=True)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{size / 1e6:.1f} M parameters, {len(stream):,} tokens of text, "
        f"{step * args.batch * CONTEXT:,} trained on; last loss {np.mean(losses[-50:]):.3f}"
    )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("tiny_lm"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--d-model", type=int, default=192)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus = list(texts(args.files or OWN_TEXTS))
    tokenizer = train_tokenizer(corpus, args.vocabulary)
    model = train(tokenizer, corpus, args)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)


if __name__ == "__main__":
    main()
