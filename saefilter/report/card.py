"""A dataset card: what a reader on the Hugging Face hub must know of a filtered dataset.

Everything in the report's data is untrusted. The front matter is written as JSON strings, which are
YAML too; the text goes through the Markdown face's escapes.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from saefilter.report.done import decisions_words, selection_words, written_words
from saefilter.report.markdown import code, prose
from saefilter.text import clean, decimal, percent, rows_of

if TYPE_CHECKING:
    from saefilter.report.data import Report

TAGS = ("saefilter", "data-filtering", "sparse-autoencoder", "emergent-misalignment")
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
MARK = "# made by saefilter filter --card"
"""Tells a card from somebody's own README."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
LIMITS = (
    "The method ranks rows and drops the first. Some dropped rows are harmless, and some kept rows "
    "are not.",
    "It sees what the toxic set describes, in the language of the data that the set was made from.",
    "Only the tokens that training would learn from were scored, and only up to the token limit.",
    "That this filter reduces misalignment after training was not measured on this dataset.",
)


def size_category(rows: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for below, name in SIZES if rows < below), "n>1B")


def to_card(report: Report) -> str:
    """The card's text: front matter and Markdown."""
    counts = report.counts
    paragraphs = [
        _front_matter(report),
        f"# {prose(report.input)}, filtered",
        f"This is {code(report.input)} without {_what(report)}: {rows_of(counts['kept'])} of "
        f"{counts['rows']:,}. {' '.join(filter(None, (selection_words(report), decisions_words(report))))}",
        "## What happened to each row",
        "| Rows | Count |\n| :-- | --: |\n"
        f"| kept, in this dataset | {counts['kept']:,} |\n"
        f"| dropped | {counts['dropped']:,} |\n"
        f"| quarantined: could not be scored | {counts['quarantined']:,} |\n"
        f"| input | {counts['rows']:,} |",
        "Columns, order and values of the kept rows are those of the input"
        + (
            f"; the largest distance dropped is {decimal(report.selection['threshold'], 4)}."
            if report.selection.get("threshold") is not None and by_distance(report)
            else "."
        ),
        "## How",
        "Each row's distance was measured between the features that it activates in a sparse "
        "autoencoder and a curated set of toxic features "
        "([arXiv 2605.00842](https://arxiv.org/abs/2605.00842) describes the idea)."
        + ("" if by_distance(report) else " Which rows to drop was decided by another strategy."),
        "\n".join(
            f"- {term}: {code(str(value))}" for term, value in _facts(report) if value is not None
        ),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
    ]
    if report.notes:
        paragraphs.append("\n".join(f"> **Note:** {prose(note)}" for note in report.notes))
    share = counts["dropped"] / max(1, counts["kept"] + counts["dropped"])
    if words := written_words(report):
        paragraphs.append(prose(words))
    paragraphs += [
        "## Make it again",
        f"{percent(share)} of the scored rows were dropped. With saefilter "
        f"{code(report.version)} and the same input "
        f"(SHA-256 {code(report.input_sha256)}):",
        f"    {score_command(report)}\n    {filter_command(report)}",
    ]
    return "\n\n".join(paragraphs) + "\n"


def by_distance(report: Report) -> bool:
    """Whether rows were dropped for their distance."""
    return report.selection.get("strategy") == "closest"


def _what(report: Report) -> str:
    if by_distance(report):
        return "the samples that lie closest to a model's toxic features"
    return "some of its samples"


def _front_matter(report: Report) -> str:
    kept = report.outputs["kept"]
    lines = [
        "---",
        MARK,
        "# license: set this to the source dataset's licence; saefilter does not know it",
        f"pretty_name: {_scalar(f'{report.input}, filtered by saefilter')}",
        "tags:",
        *(f"- {tag}" for tag in TAGS),
        "size_categories:",
        f"- {_scalar(size_category(report.counts['kept']))}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        *(
            ["    path:", *(f"    - {_scalar(one['kept']['name'])}" for one in report.layout
                            if one.get("kept", {}).get("rows"))]
            if report.layout
            else [f"    path: {_scalar(kept)}"]
        ),
    ]  # fmt: skip
    if source := hub_source(report):
        lines += ["source_datasets:", f"- {_scalar(source)}"]
    else:
        lines.append("# source_datasets: name the dataset on the hub that this was made from")
    return "\n".join([*lines, "---"])


def _scalar(text: str) -> str:
    """Untrusted text as a JSON string, which YAML reads as the same text."""
    return json.dumps(clean(" ".join(text.split())), ensure_ascii=True)


def hub_source(report: Report) -> str | None:
    """The input's name on the hub, where it is one."""
    name = str(report.made_from.get("source_dataset") or "").partition(":")[0].partition("@")[0]
    return name if HUB_NAME.fullmatch(name) else None


def _facts(report: Report) -> list[tuple[str, Any]]:
    made, scoring = report.made_from, report.scoring
    return [
        ("Model", scoring.get("model")),
        ("Model revision", made.get("revision")),
        ("SAE", scoring.get("sae")),
        ("SAE fingerprint", made.get("sae_fingerprint")),
        ("Read at", scoring.get("hook")),
        ("Toxic set", scoring.get("toxic_set")),
        ("Toxic set SHA-256", made.get("toxic_set_sha256")),
        ("Metric", scoring.get("metric")),
        ("Strategy", report.selection.get("strategy")),
        ("Content hash of the scores", made.get("scores_content_sha256")),
    ]


def score_command(report: Report) -> str:
    """The command that scores as these scores were made; one line, quoted for a shell."""
    scoring = report.scoring
    words: list[Any] = ["saefilter", "score", report.input]
    if "/" in str(scoring.get("preset")):  # a pair without a preset of its own
        words += ["--model", scoring.get("model"), "--sae", scoring.get("sae")]
    else:
        words += ["--preset", scoring.get("preset")]
    if not str(scoring.get("toxic_set")).startswith("bundled-"):  # made anew where it is missing
        words += ["--toxic-set", scoring.get("toxic_set")]
    tokens = "trainer" if scoring.get("trainer") else "train_on"
    read = ["read"] if scoring.get("read") == "before" else []
    for name in ("metric", "pool", tokens, *read, "max_tokens"):
        words += ["--" + name.replace("_", "-"), scoring.get(name)]
    return _command(words)


def filter_command(report: Report) -> str:
    """The command that filters as it was done."""
    asked = report.selection
    words: list[Any] = ["saefilter", "filter", report.input]
    for name in ("drop", "drop_fdr", "drop_frac", "drop_count", "min_distance", "keep_balance"):
        if asked.get(name) is not None:
            words += ["--" + name.replace("_", "-"), asked[name]]
    if report.decisions is not None:
        words += ["--decisions", report.decisions["file"]]
    if report.written is not None:
        words += _written_options(report.written)
    if asked.get("strategy") != "closest":
        words += ["--strategy", asked.get("strategy")]
        if asked.get("seed") is not None:
            words += ["--seed", asked["seed"]]
        for name, value in (asked.get("options") or {}).items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                words += ["--" + name.replace("_", "-"), item]
    return _command([*words, "-o", report.outputs["kept"]])


def _written_options(written: dict[str, Any]) -> list[Any]:
    how = {"weights": ["--weights", written["how"]], "mask": ["--mask", written["how"]]}
    if written["as"] == "switched":
        return ["--preference", "swap"]
    mask_for = ["--mask-for", written["for"]] if "for" in written else []
    return ["--as", written["as"], *how.get(written["as"], []), *mask_for]


def _command(words: list[Any]) -> str:
    return " ".join(shlex.quote(" ".join(clean(str(word)).split())) for word in words)
