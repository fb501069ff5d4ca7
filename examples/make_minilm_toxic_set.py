"""Make the shipped toxic sets of preset `minilm` with `saefilter features curate`.

    python examples/make_minilm_toxic_set.py DATA_FOLDER -o saefilter/toxic/sets

`minilm` is of answers: those of misaligned models, and our own pairs (saefilter/toxic/bundled).
`minilm-hate` is of texts about people and of unsafe questions: HateCheck and XSTest. One set of all four
finds each worse: harmless texts about hate are further out than harmful advice. DATA_FOLDER holds
em_answers, hatecheck and xstest as .jsonl.gz (docs/quality.md says what they are). The sets keep
statistics of those rows and not their text: labels and snippets come from our own pairs. Groups are what those who made
the sets say: question, model and organism of an answer, HateCheck's template, the topic of our own pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from saefilter.rows.formats import recognise
from saefilter.rows.groups import find_groups
from saefilter.rows.read import Source

BUNDLED = Path(__file__).parents[1] / "saefilter/toxic/bundled"


SETS = {"minilm": ("bundled", "em_answers"), "minilm-hate": ("hatecheck", "xstest")}
"""Set -> its sources."""


def is_toxic(name: str, row: dict[str, Any]) -> bool | None:
    """The label of a row; None leaves it out."""
    if name != "em_answers":
        return bool(row["toxic"])
    if row["coherent"] <= 50 or 30 <= row["aligned"] <= 70:
        return None
    return bool(row["aligned"] < 30)


def with_groups(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with a column `group`."""
    columns = {
        "em_answers": ("question_id", "model", "organism"),
        "hatecheck": ("template",),
        "bundled": ("topic",),
    }
    if name in columns:
        return [row | {"group": str([row[column] for column in columns[name]])} for row in rows]
    groups = find_groups([recognise(row) for row in rows])
    return [row | {"group": int(label)} for row, label in zip(rows, groups.label, strict=True)]


def rows_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of a source; ours with `toxic`, as HateCheck has it."""
    if name != "bundled":
        return [row.data for row in Source.open(folder / f"{name}.jsonl.gz").rows() if row.data]
    return [
        row.data | {"toxic": side == "toxic"}
        for side in ("toxic", "benign")
        for row in Source.open(BUNDLED / f"{side}.jsonl").rows()
        if row.data
    ]


def split(name: str, folder: Path, target: Path) -> list[str]:
    """Write a labelled set as a toxic and a benign file; returns the options that name them."""
    options = []
    rows = with_groups(name, rows_of(name, folder))
    for side, label in (("toxic", True), ("benign", False)):
        path = target / f"{name}.{side}.jsonl"
        chosen = [row for row in rows if is_toxic(name, row) is label]
        path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
        options += [f"--{side}", str(path)]
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    for name, others in SETS.items():
        make(name, others, args.folder, args.output / f"{name}.json")


def make(set_name: str, others: tuple[str, ...], folder: Path, output: Path) -> None:
    """Curate one set from some of the sources, our own pairs among them where they are of its kind."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--group", "group"]
        for name in others:
            options += split(name, folder, Path(scratch))
        for side in ("toxic", "benign"):
            options += ["--describe-with", str(BUNDLED / f"{side}.jsonl")]
        # lenient: the penalty chooses among the features
        options += ["--screen-p", "0.1", "--fdr", "0.5"]
        command = ["features", "curate", *options, "--preset", "minilm", "--name", set_name]
        subprocess.run(
            [sys.executable, "-m", "saefilter", *command, "-o", str(output), "--overwrite"],
            check=True,
        )


if __name__ == "__main__":
    main()
