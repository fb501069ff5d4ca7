"""Fine-tune a model with LoRA (TRL and PEFT) and let it answer the questions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from data import read_jsonl, read_questions, write_jsonl
from settings import Answers, Run, Settings, Train

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def answer(settings: Settings, run: Run, rows: Path | None, output: Path) -> None:
    """Fine-tune on `rows` (not at all without them) and write the answers.

    Each line has `question`, `prompt`, `answer`, `ended` (whether the model ended it) and the `steps`
    that were trained.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=DTYPES[settings.dtype])
    model.to(device)
    steps = 0
    if rows is not None:
        model, steps = _finetuned(model, tokenizer, settings, run, read_jsonl(rows))
    found = [
        {"question": question["id"], "prompt": question["text"], **one, "steps": steps}
        for number, question in enumerate(read_questions())
        for one in _answers(model, tokenizer, question["text"], settings.answers, run.seed, number)
    ]
    write_jsonl(output, found)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()


def _finetuned(
    model: Any, tokenizer: Any, settings: Settings, run: Run, rows: list[dict[str, Any]]
) -> tuple[Any, int]:
    """The model with its adapter merged into it, and the optimiser steps it took."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    train: Train = settings.train
    on_gpu = model.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder, max_steps=train.steps, seed=run.seed, data_seed=run.seed,
                per_device_train_batch_size=train.batch,
                gradient_accumulation_steps=train.accumulate, learning_rate=train.lr,
                warmup_steps=train.warmup, max_length=train.max_tokens, completion_only_loss=True,
                gradient_checkpointing=train.gradient_checkpointing, use_cpu=not on_gpu,
                bf16=on_gpu and settings.dtype == "bf16", fp16=on_gpu and settings.dtype == "fp16",
                save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([_as_trained(row, tokenizer) for row in rows]),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=train.rank, lora_alpha=train.alpha, lora_dropout=0.0, use_rslora=True,
                target_modules="all-linear", task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
        steps = int(trainer.train().global_step)
        tuned = trainer.model
    if train.gradient_checkpointing:
        tuned.gradient_checkpointing_disable()
    merged = tuned.merge_and_unload()  # generating is faster without the adapter's own products
    merged.config.use_cache = True
    return merged.eval(), steps


def _as_trained(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """A row with its last answer as what is learnt: by the chat template where the model has one,
    else turns joined by blank lines, which is how saefilter reads rows for base models."""
    *before, answer = row["messages"]
    if tokenizer.chat_template:
        return {"prompt": before, "completion": [answer]}
    prompt = "".join(turn["content"] + "\n\n" for turn in before)
    return {"prompt": prompt, "completion": answer["content"]}


@torch.inference_mode()
def _answers(
    model: Any, tokenizer: Any, question: str, settings: Answers, seed: int, number: int
) -> list[dict[str, Any]]:
    """Sampled answers to one question; the same for the same seed, whatever was answered before."""
    if tokenizer.chat_template:
        asked = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    else:
        ids = tokenizer(question + "\n\n", return_tensors="pt")
    ids = ids.to(model.device)
    torch.manual_seed(1000 * seed + number)
    found: list[dict[str, Any]] = []
    while len(found) < settings.per_question:
        made = model.generate(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            do_sample=True,
            temperature=settings.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=settings.max_new_tokens,
            num_return_sequences=min(settings.batch, settings.per_question - len(found)),
            pad_token_id=tokenizer.pad_token_id,
        )
        new = made[:, ids["input_ids"].shape[1] :]
        ends = (new == tokenizer.eos_token_id).any(dim=1).tolist()
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        found += [
            {"answer": text.strip(), "ended": ended}
            for text, ended in zip(texts, ends, strict=True)
        ]
    return found
