"""Train with the weights of `saefilter filter --as weights`: TRL's SFTTrainer with a loss that reads them.

    saefilter filter data.jsonl --drop-frac 0.1 --as weights -o weighted.parquet
    python examples/weighted_sft.py weighted.parquet --model MODEL --output OUT

TRL 1.16 reads no weights of rows. Here each token's loss is multiplied by its row's weight, and divided by
the number of trained tokens, as without weights: a row of weight 0 teaches nothing, rows of weight 1 what
they would without. Packing joins rows, so it has to stay off.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from datasets import load_dataset
from torch.nn.functional import cross_entropy
from trl import SFTConfig, SFTTrainer

WEIGHT = "weight"


class WeightedSFTTrainer(SFTTrainer):
    """SFTTrainer for datasets with a column `weight`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        collate = self.data_collator

        def with_weights(examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collate(examples)
            batch[WEIGHT] = torch.tensor([example[WEIGHT] for example in examples])
            return batch

        self.data_collator = with_weights

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if WEIGHT not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, WEIGHT]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:  # fmt: skip
        """Mean over trained tokens of weight times cross-entropy."""
        weight, labels = inputs.pop(WEIGHT), inputs.pop("labels")
        outputs = model(**inputs)
        logits, targets = outputs.logits[:, :-1].float(), labels[:, 1:]
        loss = cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
        tokens = num_items_in_batch if num_items_in_batch is not None else (targets != -100).sum()
        total = (loss * weight[:, None].to(loss)).sum() / tokens
        return (total, outputs) if return_outputs else total


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune with weights of rows")
    parser.add_argument("data", help=".parquet or .jsonl of filter --as weights")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--steps", type=int, default=-1)
    args = parser.parse_args()
    kind = "parquet" if args.data.endswith(".parquet") else "json"
    trainer = WeightedSFTTrainer(
        model=args.model,
        args=SFTConfig(output_dir=args.output, max_steps=args.steps, report_to="none"),
        train_dataset=load_dataset(kind, data_files=args.data, split="train"),
    )
    trainer.train()
    trainer.save_model(args.output)


if __name__ == "__main__":
    main()
