"""Where options and commands stand in the help: panels by what a user is deciding, in the order of work."""

from __future__ import annotations

WHAT = "What is scored"
MODEL = "Which model"
HOW = "How it is scored"
CASCADE = "Read only a part"
CUT = "Which rows go"
SHOWN = "Which rows are shown"
STRATEGIES = "Other strategies"
JUDGE = "Judge"
LIMITS = "Limits"
SPEED = "Machines and speed"
CONTRAST = "Rows to learn from"
FEATURES = "Which features"
WRITING = "What is written"
BESIDE = "What it belongs to"
OUTPUT = "Files and output"

ORDER = (
    CUT, LIMITS, CONTRAST, FEATURES, WHAT, MODEL, HOW, CASCADE, STRATEGIES, JUDGE, WRITING, SPEED,
    BESIDE, OUTPUT,
)  # fmt: skip
"""From what a command is about to what hardly anybody needs; panels that are not named come first."""

SHARE = "SHARE"
"""What help calls a share: `5%` or 0.05."""

OF_SETTINGS = {
    WHAT: (
        "columns", "dataset_info", "axolotl_config", "train_on", "trainer", "max_tokens",
        "truncation_side", "rendering", "on_bad_row", "near_duplicates", "group",
    ),
    MODEL: ("preset", "model", "sae", "revision", "layer", "dtype", "quantize"),
    HOW: ("toxic_set", "reference", "metric", "pool", "neighbours", "read", "max_scored_tokens"),
    CASCADE: ("cascade", "recall", "nearest", "budget", "cascade_seed"),
    SPEED: (
        "device", "device_map", "batch_tokens", "workers", "engine", "address", "cpus_per_worker",
        "shard_rows", "prepare_processes",
    ),
}  # fmt: skip
"""Of the settings of scoring, and of `group`; whoever adds a setting says here where it stands."""

OF_FLAGS = {
    CUT: ("--drop-frac", "--drop-count", "--min-distance", "--decisions"),
    STRATEGIES: ("--strategy", "--seed"),
    JUDGE: ("--judge-dry-run",),
    CONTRAST: (
        "--toxic", "--benign", "--data", "--label", "--threshold", "--match", "--describe-with",
        "--adapt",
    ),
    FEATURES: (
        "--penalty", "--feature", "--top", "--name", "--data-features", "--toxic-features", "--side",
        "--weight", "--from", "--set", "--count", "--limit", "--strength", "--controls",
    ),
    WHAT: (
        "--against", "--max-rows", "--row", "--line", "--rows", "--input", "--toxic-set", "--part",
        "--tokens-per-row",
    ),
    SPEED: ("--gpus", "--no-trial", "--timings"),
    OUTPUT: (
        "--output", "--scores", "--single", "--card", "--format", "--report", "--json", "--quiet",
        "--overwrite", "--resume", "--help", "--reason", "--reviewer", "--map", "--samples",
        "--no-examples", "--push-to-hub", "--public", "--report-rows",
    ),
}  # fmt: skip
"""Of options that commands have besides, unless these say themselves where they stand."""

METAVARS = {
    "--output": "FILE", "--scores": "FILE", "--report": "FILE", "--from": "FILE", "--data": "DATA",
    "--input": "DATA", "--toxic": "DATA", "--benign": "DATA", "--against": "DATA",
    "--describe-with": "DATA", "--decisions": "FILE", "--toxic-set": "FILE|NAME",
    "--set": "FILE|NAME", "--label": "COLUMN", "--strategy": "NAME", "--drop-frac": SHARE,
    "--min-distance": "DISTANCE", "--rows": "N", "--gpus": "8xH100", "--map": "pca|umap",
    "--format": "FORMAT", "--name": "NAME", "--side": "toxic|benign", "--penalty": "L1 L2",
    "--reason": "WHY", "--adapt": "FILE|NAME", "--reviewer": "NAME",
}  # fmt: skip
"""What help calls the values of these; of others a word for their type."""
ARGUMENTS = {
    "input": "DATA", "data": "DATA", "inputs": "DATA", "scores": "SCORES", "parts": "PART",
    "name_or_file": "SET", "names_or_files": "SET", "first": "SET", "second": "SET",
    "index": "FEATURE", "indices": "FEATURE", "artifact": "FILE", "name": "NAME",
    "weight": "WEIGHT", "number": "THEME", "text": "WORDS",
}  # fmt: skip
"""What usage and help call arguments."""
BY_TYPE = {"int": "N", "integer": "N", "float": "NUMBER", "Path": "FILE", "path": "FILE"}

COMMANDS = {
    "Before you begin": ("doctor", "presets", "tokens"),
    "Score, look, drop": ("score", "scores", "review", "filter", "verify"),
    "Judge and compare": ("check", "compare", "geometry"),
    "Toxic sets": ("features",),
}
"""Every command, in the order of work."""
FEATURES_COMMANDS = {
    "Make": ("curate", "calibrate", "themes", "steer", "merge"),
    "Read": ("list", "show", "search", "diff", "neighbours"),
    "Change": ("add", "remove", "reweight", "label", "name"),
    "Share": ("push", "pull"),
}


def panel_of(setting: str) -> str:
    """The panel of a setting of scoring; what is none of these is of the output."""
    return next((panel for panel, names in OF_SETTINGS.items() if setting in names), OUTPUT)


def panel_of_flag(flag: str) -> str | None:
    """The panel of an option that a command has besides settings."""
    return next((panel for panel, flags in OF_FLAGS.items() if flag in flags), None)


def with_default(text: str, shown: str) -> str:
    """An option's help and what holds where nothing is said, alike for all: `Rows to read [20].`"""
    return f"{text} [{shown}]." if text.endswith("...") else f"{text[:-1]} [{shown}]."
