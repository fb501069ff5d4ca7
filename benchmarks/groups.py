"""Do labels that mean nothing confirm features? And what of held-out rows is flagged?

    python -m benchmarks.groups DATA_FOLDER [--write benchmarks/results/groups.md]

Labels are drawn anew for each group of rows, 20 times: every feature that is then confirmed is a false
one. With the real labels, and with the same random labels where each row counts as a group of its own
(what was done before), the numbers to compare with. The second table is what the shipped set says of
rows that it was not made of. DATA_FOLDER: see labelled.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import put_between
from benchmarks.labelled import RULES
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset, confirm
from saefilter.curate.curate import ContrastEncoder
from saefilter.curate.options import CurationOptions
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.rows.formats import Conversation, recognise
from saefilter.rows.groups import Groups, find_groups, groups_by
from saefilter.rows.read import Source
from saefilter.toxic.load import load_toxic_set

SEEDS = 20
GROUPINGS: dict[str, dict[str, Callable[[dict[str, Any]], Any]]] = {
    "hatecheck": {
        "template": lambda row: row["template"],
        "functionality": lambda row: row["functionality"],
    },
    "em_answers": {
        "question and model": lambda row: (row["question_id"], row["model"]),
        "question, model, organism": lambda row: (
            row["question_id"], row["model"], row["organism"],
        ),
    },
    "xstest": {"type": lambda row: row["type"]},
}  # fmt: skip
MARKER = "<!-- random labels: written by benchmarks/groups.py -->"
HELD_OUT = "<!-- held out: written by benchmarks/groups.py -->"


def load(
    name: str, folder: Path, encoder: Encoder
) -> tuple[Contrast, list[dict[str, Any]], list[Conversation]]:
    """The labelled rows of a set, encoded."""
    rows, conversations, labels = [], [], []
    for row in Source.open(folder / f"{name}.jsonl.gz").rows():
        assert row.data is not None
        toxic, _ = RULES[name](row.index, row.data)
        if toxic is not None:
            rows.append(row.data)
            conversations.append(recognise(row.data))
            labels.append(toxic)
    collected = ContrastEncoder(encoder)
    collected.add(conversations, labels)
    usable = collected.usable
    kept = [
        (row, one) for row, one, is_usable in zip(rows, conversations, usable, strict=True)
        if is_usable
    ]  # fmt: skip
    return collected.result(), [row for row, _ in kept], [one for _, one in kept]


def n_confirmed(contrast: Contrast, seed: int) -> int:
    """Features that are confirmed at 5 %."""
    data = GroupedContrast(contrast, seed)
    return int((confirm(data, Subset(0), CurationOptions()).signs != 0).sum())


def tried(contrast: Contrast, groups: Groups) -> dict[str, Any]:
    """Features that real labels confirm, and labels drawn by group, with groups and without."""
    grouped = replace(contrast, group=groups.label, copies=groups.copies)
    share, drawn, by_row = contrast.toxic.mean(), [], []
    for seed in range(SEEDS):
        toxic = (np.random.default_rng(seed).random(groups.count) < share)[groups.label]
        if toxic.all() or not toxic.any():
            continue
        drawn.append(n_confirmed(replace(grouped, toxic=toxic), seed))
        by_row.append(n_confirmed(replace(contrast, toxic=toxic), seed))
    return {
        "groups": groups.count, "effective": round(groups.effective, 1),
        "real": n_confirmed(grouped, 0), "random": drawn, "random_by_row": by_row,
    }  # fmt: skip


def table(results: dict[str, dict[str, Any]]) -> str:
    """The first table."""
    lines = [
        "| set, groups by | groups (as good as) | confirmed, real labels | random labels by group: at "
        "most 2 in | most | the same, each row a group: median |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in results.items():
        few = sum(count <= 2 for count in one["random"])
        lines.append(
            f"| {name} | {one['groups']} ({one['effective']:.0f}) | {one['real']} | {few} of "
            f"{len(one['random'])} | {max(one['random'])} | {np.median(one['random_by_row']):.0f} |"
        )
    return "\n".join(lines)


def held_out_table() -> str:
    """What the shipped set says of rows of its sources that it was not made of."""
    calibration = load_toxic_set("minilm").calibration
    assert calibration is not None
    lines = [
        "| source | side | rows (groups) | beyond the 95 % quantile | beyond the 99 % quantile |",
        "| --- | --- | --- | --- | --- |",
    ]
    of_level = {
        level: [one for one in calibration.held_out if one.level == level] for level in (0.05, 0.01)
    }
    for five, one in zip(of_level[0.05], of_level[0.01], strict=True):
        shares = [f"{100 * x.rate:.1f} % ({100 * x.low:.1f} to {100 * x.high:.1f})"
                  for x in (five, one)]  # fmt: skip
        name = five.source.split(".")[0]
        lines.append(
            f"| {name} | {five.side} | {five.rows:,} ({five.groups:.0f}) | {' | '.join(shares)} |"
        )
    if calibration.auroc is not None:
        area, low, high = calibration.auroc
        lines.append(
            f"\nHeld-out AUROC, mean within sources: {area:.3f} ({low:.3f} to {high:.3f})."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/groups.json"))
    parser.add_argument("--write", type=Path, help="Put the tables between the file's markers.")
    args = parser.parse_args()
    encoder = Encoder(load_preset("minilm"))
    results = {}
    for name, groupings in GROUPINGS.items():
        contrast, rows, conversations = load(name, args.folder, encoder)
        for by, key in groupings.items():
            groups = groups_by([key(row) for row in rows], by, conversations)
            results[f"{name}, {by}"] = tried(contrast, groups)
        results[f"{name}, found"] = tried(contrast, find_groups(conversations))
        print(json.dumps(results, indent=1), flush=True)
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results), held_out_table(), sep="\n\n")
    if args.write:
        put_between(args.write, MARKER, table(results))
        put_between(args.write, HELD_OUT, held_out_table())


if __name__ == "__main__":
    main()
