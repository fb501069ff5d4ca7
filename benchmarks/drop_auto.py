"""What `filter --drop auto` drops of files whose share of bad rows is known.

    python -m benchmarks.drop_auto DATA_FOLDER [--draws 20] [--write benchmarks/results/drop_auto.md]

DATA_FOLDER holds formats/alpaca_en_demo.json, hatecheck, em_answers and em_finance (docs/quality.md says
what they are). Of each draw, one random half of Alpaca is the reference, the other is mixed with bad
rows drawn at random. Every row is scored once; a draw's percentiles are then those that `--reference`
gives, from the same quantiles.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common import put_between
from benchmarks.false_alarms import Rows, of_file, source_of
from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.curate.calibrate import calibration_of
from saefilter.curate.sources import usable_rows
from saefilter.filtering.job import candidates_of
from saefilter.rows.groups import effective_groups, find_groups
from saefilter.rows.read import Source
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.select.strategies import Selection, choose
from saefilter.settings import ScoreSettings

MARKER = "<!-- table: written by benchmarks/drop_auto.py -->"
SHARES = (0.0, 0.01, 0.05, 0.2, 0.5)
GOOD = of_file("formats/alpaca_en_demo.json")


def misaligned(row: dict[str, Any]) -> bool:
    """By the literature's rule."""
    return (row["aligned"] or 100) < 30 and (row["coherent"] or 0) > 50


BAD = {
    "hateful texts (hatecheck)": of_file("hatecheck.jsonl.gz", lambda row: bool(row["toxic"])),
    "misaligned answers (em_answers)": of_file("em_answers.jsonl.gz", misaligned),
    "reckless advice (em_finance)": of_file("em_finance/risky.jsonl.gz"),
}
MOST_ROWS = 1500
"""Of a kind of bad rows."""
RULES = {"share": None, "fdr": 0.1}
"""What is asked for: nothing besides, or --drop-fdr."""


@dataclass(frozen=True)
class Pool:
    """Rows of one kind, scored."""

    rows: Rows
    scores: pa.Table
    proximity: NDArray[np.float64]
    group: NDArray[np.int64]
    made: Any
    """The scores' provenance."""


def pool_of(rows: Rows, scorer: RowScorer, folder: Path) -> Pool:
    """Scored as `saefilter score` does it, without a reference of the user's."""
    rows = [{name: v for name, v in row.items() if name != "toxic"} for row in rows]
    source = source_of(rows, folder / "pool.jsonl")
    score_file(source, folder / "p.parquet", scorer.settings, scorer=scorer, overwrite=True)
    scores = Scores.open(folder / "p.parquet")
    table = scores.read(SCHEMA.names)
    usable = np.flatnonzero(table["status"].to_numpy(zero_copy_only=False) == "scored")
    rows, table = [rows[i] for i in usable.tolist()], table.take(usable)
    source = source_of(rows, folder / "pool.jsonl")
    return Pool(
        rows, table, table["proximity"].to_numpy(zero_copy_only=False),
        find_groups(usable_rows(source)).label, scores.provenance,
    )  # fmt: skip


def mixed(
    parts: list[tuple[Pool, NDArray[np.int64]]], own: tuple[Pool, NDArray[np.int64]] | None,
    folder: Path, order: NDArray[np.int64],
) -> tuple[Source, Scores]:  # fmt: skip
    """A file of these rows in this order with its scores, against the reference rows `own`, or the toxic
    set's."""
    rows = [pool.rows[i] for pool, ids in parts for i in ids.tolist()]
    source = source_of([rows[i] for i in order.tolist()], folder / "mix.jsonl")
    table = pa.concat_tables([pool.scores.take(ids) for pool, ids in parts]).take(order)
    made = parts[0][0].made
    columns: dict[str, Any] = {
        "row_id": np.arange(len(rows)), "line": np.arange(len(rows)) + 1,
        "row_hash": [row.digest() for row in source.rows()],
    }  # fmt: skip
    reference = {**made.reference}
    if own is not None:
        pool, ids = own
        key = f"{made.metric}/{made.pool}"
        calibration = calibration_of(
            {key: pool.proximity[ids]}, len(ids), None, effective_groups(pool.group[ids]), {}, None
        )
        proximity = table["proximity"].to_numpy(zero_copy_only=False)
        columns["percentile"] = calibration.percentile(proximity, key)
        reference = {
            "groups": calibration.groups, "held_out": [], "auroc": reference.get("auroc"),
            "name": "half", "sha256": "", "proximity": pool.proximity[ids].tolist(),
            "group": pool.group[ids].tolist(),
        }  # fmt: skip
    for name, values in columns.items():
        place = SCHEMA.get_field_index(name)
        table = table.set_column(
            place, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type)
        )
    made = replace(
        made, rows=len(rows), scored=len(rows), quarantined=0, input_sha256=source.sha256(),
        reference=reference, content_sha256=content_sha256(SCHEMA, [table]),
        reference_rows=made.reference_rows if own is None else len(own[1]),
    )  # fmt: skip
    with pq.ParquetWriter(folder / "mix.scores.parquet", SCHEMA) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(made.to_metadata())
    return source, Scores.open(folder / "mix.scores.parquet")


def draws(
    good: Pool, bad: Pool, share: float, count: int, folder: Path, *, own: bool
) -> Iterator[dict[str, float]]:
    """Of each draw and rule: the dropped share, the bad rows among the dropped, those found, the estimate."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(len(good.rows))
        reference, rest = np.split(shuffled, [len(shuffled) // 2])
        wanted = round(share / (1 - share) * len(rest))
        chosen = rng.choice(len(bad.rows), min(wanted, len(bad.rows)), replace=False)
        order = rng.permutation(len(rest) + len(chosen))
        is_bad = (np.arange(len(order)) >= len(rest))[order]
        source, scores = mixed(
            [(good, rest), (bad, chosen)], (good, reference) if own else None, folder, order
        )
        line = {"bad": float(is_bad.mean()), "rows": float(len(order))}
        for rule, fdr in RULES.items():
            choice = choose(candidates_of(source, scores), Selection(drop="auto", drop_fdr=fdr))
            assert choice.cut is not None
            hit = float((choice.dropped & is_bad).sum())
            line[f"{rule} dropped"] = float(choice.dropped.mean())
            line[f"{rule} bad"] = hit / choice.dropped.sum() if choice.dropped.any() else np.nan
            line[f"{rule} found"] = hit / is_bad.sum() if is_bad.any() else np.nan
            line["estimate"] = choice.cut.bad
            line["holds"] = float(choice.cut.low <= line["bad"] <= choice.cut.high)
        yield line


def _shares(values: list[float]) -> str:
    """Mean, and between which ends nine of ten draws lie."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return "-"
    low, high = np.quantile(known, [0.05, 0.95])
    return f"{known.mean():.1%} ({low:.1%} to {high:.1%})".replace("%", " %")


def table_line(kind: str, lines: list[dict[str, float]]) -> str:
    """A line of the table."""
    columns = {name: [line[name] for line in lines] for name in lines[0]}
    none = sum(value == 0 for value in columns["share dropped"])
    cells = [
        kind, f"{np.mean(columns['bad']):.1%}".replace("%", " %"), f"{columns['rows'][0]:,.0f}",
        _shares(columns["estimate"]), f"{sum(columns['holds']):.0f} of {len(lines)}",
        _shares(columns["share dropped"]), f"{none} of {len(lines)}",
        _shares(columns["share bad"]), _shares(columns["fdr dropped"]), _shares(columns["fdr bad"]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = """| bad rows | true share | rows | estimate | interval holds it | dropped | nothing dropped | bad among the dropped | with `--drop-fdr 0.1` | bad among these |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def tables(folder: Path, count: int) -> Iterator[str]:
    """The document's lines, as they are measured."""
    scorer = RowScorer.load(ScoreSettings(preset="minilm"))
    with tempfile.TemporaryDirectory() as scratch:
        good = pool_of(GOOD(folder), scorer, Path(scratch))
        pools = {}
        for kind, read in BAD.items():
            rows = read(folder)
            random.Random(0).shuffle(rows)
            pools[kind] = pool_of(rows[:MOST_ROWS], scorer, Path(scratch))
        for own, title in (
            (True, "Against the other half of Alpaca, by `--reference`:"),
            (False, "Against the shipped set's own reference rows:"),
        ):
            yield f"{title}\n\n{HEAD}"
            for share in SHARES:
                for kind, pool in pools.items() if share else [("none", good)]:
                    lines = list(draws(good, pool, share, count, Path(scratch), own=own))
                    yield table_line(kind, lines)
            yield ""
    scorer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What --drop auto drops, by the true share")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument("--json", type=Path, help="keep the table's lines here too")
    args = parser.parse_args()
    lines = []
    for line in tables(args.folder, args.draws):
        print(line, flush=True)
        lines.append(line)
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    if args.write:
        put_between(args.write, MARKER, "\n".join(lines).strip())


if __name__ == "__main__":
    main()
