"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

INPUT_HELP = (
    "Dataset: a JSONL, JSON, CSV (.gz, .zst), Parquet or Arrow file, a folder or pattern of them, - for "
    "standard input, a URL, or a hub dataset (org/name:train[:1000])."
)
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Model and SAE to read with; see `saefilter presets`."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Any Hugging Face model (id or folder), with --sae."),
]
SaeOption = Annotated[
    str | None,
    typer.Option("--sae", help="Its SAE: RELEASE/SAE_ID as sae-lens names it, or a folder."),
]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", help="The model's commit, tag or branch on the hub.")
]
ToxicSetOption = Annotated[
    str | None,
    typer.Option("--toxic-set", help="Toxic set: a JSON file or a shipped name [preset's own]."),
]
MetricOption = Annotated[
    str | None,
    typer.Option("--metric", help="How closeness is measured; docs/metrics.md [contrast]."),
]
PoolOption = Annotated[
    str, typer.Option("--pool", help="Pool activations over trained tokens: mean or max.")
]
TrainOnOption = Annotated[
    str, typer.Option("--train-on", help="Tokens that are trained on: assistant, all, last-turn.")
]
MaxTokensOption = Annotated[
    int, typer.Option("--max-tokens", min=1, help="Cut rows here, as your trainer does.")
]
TruncationOption = Annotated[
    str,
    typer.Option("--truncation-side", help="What a cut takes away: right (the end) or left."),
]
RenderingOption = Annotated[
    str,
    typer.Option("--rendering", help="chat (the model's template), plain, or auto (the preset's)."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16 or fp16.")]
DeviceMapOption = Annotated[
    str | None,
    typer.Option("--device-map", help="Spread a model over several cards: auto, balanced, ..."),
]
QuantizeOption = Annotated[
    str, typer.Option("--quantize", help="none, 8bit or 4bit (needs bitsandbytes and a GPU).")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist already.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes, each with its own model [one per GPU]."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]

POOLS = ("mean", "max")
TRAIN_ON = ("assistant", "all", "last-turn")
DTYPES = ("auto", "fp32", "bf16", "fp16")
SIDES = ("right", "left")
RENDERINGS = ("auto", "chat", "plain")
QUANTIZATIONS = ("none", "8bit", "4bit")
